"""Bad input, row by row: what a running service answers over HTTP, and that nothing comes of it.

The rows are those of the project's catalogue of bad input (X: XML, K: key-value pairs, Z: sizes, R: jobs and
results, I: images, C: commands, FP: files, T: tokens, H: HTTP, J: JSON). A row's letters and number begin the
name of its tests; ``test_index`` says where those are tested that are not here.
"""

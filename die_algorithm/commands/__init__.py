"""The commands of ``die``, one a module, loaded when it is called.

So the worker does not carry what only the web process needs in its memory, and the other way round.
"""

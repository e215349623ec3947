"""The embedded StorageHub: a small, real server of gCube's workspace API, with files on disk.

For the demo, for the tests and for authors of images, who need no account at D4Science to try their
image. It speaks the contract in "reference: storagehub" and imports nothing of the service itself.

The rooms, from the bottom up: ``errors``, ``items`` and ``users`` (words); ``catalogue`` and
``blobs`` (what is on disk); ``workspace``, ``changes``, ``trash``, ``sharing``,
``uploaded_archive``, ``query`` (the rules); ``items_json``, ``folder_zip``, ``public_links``,
``forms``, ``authentication`` (what is on the wire); ``answers``, ``reading``, ``changing``,
``around`` (the endpoints); ``app`` and ``server``.
"""

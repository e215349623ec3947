"""The embedded StorageHub: a small, real server of gCube's workspace API, with files on disk.

For the demo, for the tests and for authors of images, who need no account at D4Science to try their
image. It speaks the contract in "reference: storagehub", and shares with the service nothing but the
error for wrong settings. ``server.LocalStorageHub`` is the way in.

The rooms, from the bottom up: ``errors``, ``items``, ``names``, ``mime_types`` and ``users`` (words);
``catalogue`` and ``blobs`` (what is on disk); ``workspace``, ``changes``, ``trash``, ``sharing`` and
``uploaded_archive`` (the rules); ``items_json``, ``query``, ``folder_zip``, ``public_links`` and
``forms`` (what is on the wire); ``storage`` (the folder as a whole) and ``authentication``;
``answers``, ``reading``, ``changing`` and ``around`` (the endpoints); ``app`` and ``server``.
"""

"""The client of StorageHub: the users' workspaces, releases 1.x and 2.x (reference: storagehub).

Two rules shape it. Nothing that comes back is trusted: an answer counts only when its status, type,
length and content all fit. And the user token goes to StorageHub alone: redirects are not followed,
and no cookie, ``.netrc``, proxy setting or URL in a log ever sees it (reference: safety 2.8, 3.4).

========== ==================================================================
client     what can be asked of a workspace
calls      how one call is made; the only module that knows ``requests``
answers    what an answer's status and headers mean
items      StorageHub's JSON
multipart  the form of an upload
========== ==================================================================
"""

from die_algorithm.storagehub.client import StorageHub

__all__ = ["StorageHub"]

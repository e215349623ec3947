"""What stands around StorageHub at D4Science: discovery, the user's profile, the link resolver."""

from __future__ import annotations

from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from die_algorithm.local_storagehub.answers import Call, file_answer, json_answer
from die_algorithm.local_storagehub.errors import IdNotFound
from die_algorithm.local_storagehub.items import StoredItem, Version
from die_algorithm.local_storagehub.reading import version_answer

#: Where 1.x has its API; what discovery answers.
BASE_PATH = "/storagehub/workspace"

_DISCOVERY = """<?xml version="1.0" encoding="UTF-8"?>
<Result>
  <Resource version="0.4.x">
    <ID>local-storagehub</ID>
    <Type>GCoreEndpoint</Type>
    <Profile>
      <ServiceClass>DataAccess</ServiceClass>
      <ServiceName>StorageHub</ServiceName>
      <AccessPoint>
        <RunningInstanceInterfaces>
          <Endpoint EntryName="org.gcube.data.access.storagehub.StorageHub">{endpoint}</Endpoint>
        </RunningInstanceInterfaces>
      </AccessPoint>
    </Profile>
  </Resource>
</Result>
"""


def discovery(call: Call) -> Response:
    """``GET /icproxy/…/StorageHub``: where the workspace is (reference: storagehub 1.1)."""
    document = _DISCOVERY.format(endpoint=escape(call.url + BASE_PATH))
    return Response(document, content_type="application/xml; charset=utf-8")


def profile(call: Call) -> Response:
    """``GET /rest/2/people/profile``: whose token it is (reference: dataminer-wps, Tokens)."""
    user = call.caller.user
    result = {"username": user.name, "fullname": user.fullname or user.name}
    return json_answer({"success": True, "message": None, "result": result})


def resolve_link(call: Call) -> Response:
    """``GET /items/publiclink/{E_…}`` and ``GET /shub/{E_…}``: the file behind a public link."""
    link = call.path["link"]
    found = call.storage.links.read(link)
    item = call.storage.catalogue.get(found[0]) if found else None
    if found is None or item is None or item.content is None:
        raise IdNotFound(link)
    if found[1] is None:
        return file_answer(call.request, call.storage, item.name, item.content)
    return version_answer(call, item, _version(call, item, found[1]))


def _version(call: Call, item: StoredItem, name: str) -> Version:
    for version in call.storage.catalogue.versions(item.id):
        if version.name == name:
            return version
    raise IdNotFound(f"{item.id}, version {name},")

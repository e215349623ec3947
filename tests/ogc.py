"""Holds a document to the OGC's schemas, and reads it like a client that trusts nobody."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from canary import assert_none
from lxml import etree

#: The schemas are kept beside the repository; a copy of the repository alone goes without them.
SCHEMAS = Path(__file__).resolve().parents[2] / "shared" / "schemas"

needs_schemas = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="the OGC's schemas are not in ../shared/schemas"
)

#: WPS 2.0's schemas take one group of attributes from the schema of schemas. The validator, which knows
#: the types in there by itself, gets no more of it than that.
_SCHEMA_OF_SCHEMAS = "http://www.w3.org/2001/XMLSchema.xsd"
_OCCURS = """
<schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/2001/XMLSchema">
 <attributeGroup name="occurs">
  <attribute name="minOccurs" type="nonNegativeInteger" default="1"/>
  <attribute name="maxOccurs" default="1">
   <simpleType>
    <union memberTypes="nonNegativeInteger">
     <simpleType><restriction base="NMTOKEN"><enumeration value="unbounded"/></restriction></simpleType>
    </union>
   </simpleType>
  </attribute>
 </attributeGroup>
</schema>
"""

NAMESPACES = {
    "wps": "http://www.opengis.net/wps/1.0.0",
    "ows": "http://www.opengis.net/ows/1.1",
    "ogr": "http://ogr.maptools.org/",
    "gml": "http://www.opengis.net/gml",
    "d4science": "http://www.d4science.org",
    "xlink": "http://www.w3.org/1999/xlink",
}


def assert_valid(document: bytes) -> etree._Element:
    """Check that a document shows no token, is well-formed and, where the schemas are at hand, valid.

    Returns:
        Its root element.
    """
    assert_none(document, "a document")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    root = etree.fromstring(document, parser)
    if SCHEMAS.is_dir():
        schema = _schema_for()(root)
        assert schema.validate(root), f"{schema.error_log}\n{document.decode()}"
    return root


def texts(root: etree._Element, path: str) -> list[str]:
    """The texts (or attribute values) that an XPath finds."""
    found = root.xpath(path, namespaces=NAMESPACES)
    assert isinstance(found, list)
    return [
        "".join(map(str, item.itertext())) if isinstance(item, etree._Element) else str(item)
        for item in found
    ]


def text(root: etree._Element, path: str) -> str:
    """The one text that an XPath finds."""
    found = texts(root, path)
    assert len(found) == 1, f"{path} is there {len(found)} times"
    return found[0]


@cache
def _schema_for() -> Callable[[etree._Element], etree.XMLSchema]:
    spec = importlib.util.spec_from_file_location("ogc_schemas", SCHEMAS / "validate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    offline: type[etree.Resolver] = module._Offline

    class WithOccurs(offline):  # type: ignore[misc, valid-type]
        def resolve(self, url: str, public_id: str, context: object) -> object:
            if url == _SCHEMA_OF_SCHEMAS:
                return self.resolve_string(_OCCURS, context)
            return super().resolve(url, public_id, context)

    module._Offline = WithOccurs  # type: ignore[attr-defined]
    schema_for: Callable[[etree._Element], etree.XMLSchema] = module.schema_for
    return schema_for

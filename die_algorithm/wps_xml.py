"""WPS operations in XML: the body of a POST request, read strictly and written canonically.

What an honest client never sends is refused before anything looks at it: document types, entities,
other encodings than UTF-8, elements inside literals (reference: safety 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

from lxml import etree

from die_algorithm.errors import (
    InvalidParameterValue,
    MalformedRequest,
    MissingParameterValue,
    OperationNotSupported,
)
from die_algorithm.inline_content import XML, complex_value
from die_algorithm.models import OutputRequest, ResponseForm
from die_algorithm.wps_operations import (
    VERSION,
    DescribeProcess,
    Execute,
    GetCapabilities,
    InputValue,
    Operation,
    check_language,
    check_literal,
    check_response_form,
    check_service,
    check_version,
    negotiate_version,
    truth,
)
from die_algorithm.xml_writer import OWS, WPS, XLINK, Element

_WPS_2 = "http://www.opengis.net/wps/2.0"
_NAMESPACES = {"wps": WPS, "ows": OWS}
_MAX_IDENTIFIERS = 100
_MAX_INPUTS = 50
_ENCODING = re.compile(rb"^<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


def parse_xml(body: bytes) -> Operation:
    """Read the operation that a body asks for.

    Raises:
        RequestError: it asks for none, or not as the standard wants it; the locator names where.
    """
    root = _root(body)
    name = etree.QName(root)
    if name.namespace == _WPS_2:
        check_version("2.0.0")
    if name.namespace != WPS:
        raise MalformedRequest(f"The root element is not in the namespace of WPS {VERSION}.")
    reader = _READERS.get(name.localname)
    if reader is None:
        raise OperationNotSupported(
            "This service offers GetCapabilities, DescribeProcess and Execute.", name.localname[:80]
        )
    service = root.get("service")
    if service is None:
        raise MissingParameterValue("The attribute service is missing.", "service")
    check_service(service)
    if root.get("language"):
        check_language(root.get("language", ""))
    return reader(root)


def _root(body: bytes) -> Element:
    text = body.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise MalformedRequest("The request has no body.")
    encoding = _ENCODING.match(text)
    if encoding and encoding[1].upper() not in (b"UTF-8", b"UTF8", b"US-ASCII", b"ASCII"):
        raise MalformedRequest("The request must be encoded in UTF-8.")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("The request is not UTF-8.") from None
    # In UTF-8 a document type can be written in one way only, so a search finds every one of them.
    if b"<!DOCTYPE" in text or b"\x00" in text:
        raise MalformedRequest("The request holds a document type or a NUL, which is not accepted.")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=False,
    )
    try:
        return etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        line = error.position[0] if error.position else 1
        raise MalformedRequest(f"The request is not well-formed XML (line {line}).") from None


def _get_capabilities(root: Element) -> GetCapabilities:
    negotiate_version(tuple(_texts(root, "wps:AcceptVersions/ows:Version")))
    return GetCapabilities()


def _describe_process(root: Element) -> DescribeProcess:
    check_version(root.get("version") or VERSION)
    return DescribeProcess(identifiers=_identifiers(root))


def _identifiers(root: Element) -> tuple[str, ...]:
    identifiers = tuple(_texts(root, "ows:Identifier"))
    if not identifiers:
        raise MissingParameterValue("The Identifier is missing.", "Identifier")
    if len(identifiers) > _MAX_IDENTIFIERS:
        raise InvalidParameterValue(
            f"More than {_MAX_IDENTIFIERS} processes are asked for.", "Identifier"
        )
    return identifiers


def _execute(root: Element) -> Execute:
    check_version(root.get("version") or VERSION)
    elements = _find(root, "wps:DataInputs/wps:Input")
    if len(elements) > _MAX_INPUTS:
        raise InvalidParameterValue(f"More than {_MAX_INPUTS} inputs are given.", "DataInputs")
    inputs: dict[str, tuple[InputValue, ...]] = {}
    for element in elements:
        name = _identifier(element)
        inputs[name] = (*inputs.get(name, ()), _input_value(name, element))
    return Execute(identifier=_identifier(root), inputs=inputs, response_form=_response_form(root))


def _identifier(element: Element) -> str:
    texts = _texts(element, "ows:Identifier")
    if not texts or not texts[0]:
        raise MissingParameterValue("An Identifier is missing.", "Identifier")
    if len(texts) > 1:
        raise MalformedRequest("An element has two Identifiers.")
    return texts[0]


def _input_value(name: str, element: Element) -> InputValue:
    data, references = _find(element, "wps:Data/*"), _find(element, "wps:Reference")
    if len(data) + len(references) > 1:
        raise MalformedRequest(
            f"The input {name[:80]!r} has more than one value in one Input element."
        )
    if references:
        return _reference(name, references[0])
    if not data:
        raise MissingParameterValue(f"The input {name[:80]} has no value.", name)
    if data[0].tag == f"{{{WPS}}}LiteralData":
        check_literal(name, data[0].get("dataType"), data[0].get("uom"))
        return InputValue(text=_plain_text(name, data[0]))
    if data[0].tag == f"{{{WPS}}}ComplexData":
        return _complex_data(name, data[0])
    raise InvalidParameterValue(
        f"{name[:80]} is given as something else than a value or a file.", name
    )


def _complex_data(name: str, element: Element) -> InputValue:
    mime_type, encoding = element.get("mimeType"), element.get("encoding")
    if not len(element):
        return complex_value(name, element.text or "", mime_type=mime_type, encoding=encoding)
    if not any(isinstance(part.tag, str) for part in element):
        raise InvalidParameterValue(f"{name[:80]} holds a comment beside its text.", name)
    # What the client embedded as a document of its own, with the namespaces that are in force there.
    parts = [escape(element.text or "")]
    parts += [etree.tostring(part, encoding="unicode") for part in element]
    document = "".join(parts).strip()
    return complex_value(name, document, mime_type=mime_type or XML, encoding=encoding)


def _reference(name: str, element: Element) -> InputValue:
    href = element.get(f"{{{XLINK}}}href") or ""
    if not href or len(element):
        raise InvalidParameterValue(
            f"{name[:80]} is a reference without address, or one with headers or a body.", name
        )
    if element.get("method", "GET").upper() != "GET":
        raise InvalidParameterValue(f"{name[:80]} is a reference; only GET is used for it.", name)
    return InputValue(href=href, is_file=True)


def _plain_text(name: str, element: Element) -> str:
    # A child, a comment and a processing instruction all count as children of the element.
    if len(element):
        raise InvalidParameterValue(
            f"{name[:80]} must be plain text, without elements or comments.", name
        )
    if not element.text:
        raise InvalidParameterValue(f"{name[:80]} is empty.", name)
    return element.text


def _response_form(root: Element) -> ResponseForm:
    raws = _find(root, "wps:ResponseForm/wps:RawDataOutput")
    documents = _find(root, "wps:ResponseForm/wps:ResponseDocument")
    if len(raws) + len(documents) > 1:
        raise MalformedRequest("The ResponseForm asks for more than one form.")
    if raws:
        return ResponseForm(raw=_output(raws[0]))
    if not documents:
        return ResponseForm()
    document = documents[0]
    return check_response_form(
        ResponseForm(
            outputs=tuple(_output(element) for element in _find(document, "wps:Output")),
            store=_flag(document, "storeExecuteResponse"),
            status=_flag(document, "status"),
            lineage=_flag(document, "lineage"),
        )
    )


def _output(element: Element) -> OutputRequest:
    return OutputRequest(
        identifier=_identifier(element),
        as_reference=_flag(element, "asReference"),
        mime_type=element.get("mimeType"),
    )


def _flag(element: Element, name: str) -> bool:
    return truth(element.get(name, "false"), name)


def _find(element: Element, path: str) -> Sequence[Element]:
    found = element.xpath(path, namespaces=_NAMESPACES)
    return [item for item in found if isinstance(item, Element)] if isinstance(found, list) else []


def _texts(element: Element, path: str) -> list[str]:
    found = _find(element, path)
    if any(len(item) for item in found):
        # Otherwise the text before a comment would pass for the whole.
        raise MalformedRequest(
            "A name or version must be plain text, without elements or comments."
        )
    return [(item.text or "").strip() for item in found]


_READERS: Mapping[str, Callable[[Element], Operation]] = {
    "GetCapabilities": _get_capabilities,
    "DescribeProcess": _describe_process,
    "Execute": _execute,
}

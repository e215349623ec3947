"""WPS operations in XML: the body of a POST request, read strictly.

What an honest client never sends is refused before anything looks at it: document types, entities,
other encodings than UTF-8, elements inside literals (reference: safety 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lxml import etree

from die_algorithm.description import check_identifier, check_output_form
from die_algorithm.errors import (
    InvalidParameterValue,
    MalformedRequest,
    MissingParameterValue,
    OperationNotSupported,
)
from die_algorithm.inline_content import XML, complex_value
from die_algorithm.job_request import check_name
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
    media_type,
    negotiate_version,
    truth,
)
from die_algorithm.xml_reader import (
    elements_in,
    embedded_text,
    find,
    plain_text,
    read_root,
    text_around,
    texts,
)
from die_algorithm.xml_writer import OWS, WPS, WPS_2, XLINK, Element

_NAMESPACES = {"wps": WPS, "ows": OWS}
_MAX_IDENTIFIERS = 100
_MAX_INPUTS = 50


def parse_xml(body: bytes) -> Operation:
    """Read the operation that a body asks for.

    Raises:
        RequestError: it asks for none, or not as the standard wants it; the locator names where.
    """
    return read_wps(read_root(body))


def read_wps(root: Element) -> Operation:
    """The same of a body that was read already.

    Raises:
        RequestError: as for :func:`parse_xml`.
    """
    name = etree.QName(root)
    if name.namespace == WPS_2:
        raise InvalidParameterValue(
            f"Only WPS {VERSION} is spoken here; ask in its namespace, with version={VERSION}.",
            "version",
        )
    if name.namespace != WPS:
        raise MalformedRequest(f"The root element is not in the namespace of WPS {VERSION}.")
    reader = _READERS.get(name.localname)
    if reader is None:
        raise OperationNotSupported(
            "WPS 1.0.0 has GetCapabilities, DescribeProcess and Execute; what WPS 2.0.0 has beside them "
            f"is asked for in the namespace {WPS_2}.",
            name.localname[:80],
        )
    service = root.get("service")
    if service is None:
        raise MissingParameterValue("The attribute service is missing.", "service")
    check_service(service)
    if root.get("language"):
        check_language(root.get("language", ""))
    return reader(root)


def _get_capabilities(root: Element) -> GetCapabilities:
    accepted = tuple(_texts(root, "wps:AcceptVersions/ows:Version"))
    return GetCapabilities(version=negotiate_version(accepted))


def _describe_process(root: Element) -> DescribeProcess:
    check_version(root.get("version", ""))
    return DescribeProcess(identifiers=_identifiers(root))


def _identifiers(root: Element) -> tuple[str, ...]:
    identifiers = tuple(_texts(root, "ows:Identifier"))
    if not identifiers or not all(identifiers):
        raise MissingParameterValue("The Identifier is missing.", "Identifier")
    if len(identifiers) > _MAX_IDENTIFIERS:
        raise InvalidParameterValue(
            f"More than {_MAX_IDENTIFIERS} processes are asked for.", "Identifier"
        )
    return identifiers


def _execute(root: Element) -> Execute:
    check_version(root.get("version", ""))
    # First: what is said of inputs and outputs below is said of this process's.
    identifier = _identifier(root)
    check_identifier(identifier)
    if len(_find(root, "wps:DataInputs")) > 1 or len(_find(root, "wps:ResponseForm")) > 1:
        raise MalformedRequest("The Execute has DataInputs or ResponseForm more than once.")
    elements = _find(root, "wps:DataInputs/wps:Input")
    if len(elements) > _MAX_INPUTS:
        raise InvalidParameterValue(f"More than {_MAX_INPUTS} inputs are given.", "DataInputs")
    inputs: dict[str, tuple[InputValue, ...]] = {}
    for element in elements:
        name = _identifier(element)
        check_name(name)
        inputs[name] = (*inputs.get(name, ()), _input_value(name, element))
    return Execute(identifier=identifier, inputs=inputs, response_form=_response_form(root))


def _identifier(element: Element) -> str:
    texts = _texts(element, "ows:Identifier")
    if not texts or not texts[0]:
        raise MissingParameterValue("An Identifier is missing.", "Identifier")
    if len(texts) > 1:
        raise MalformedRequest("An element has two Identifiers.")
    return texts[0]


def _input_value(name: str, element: Element) -> InputValue:
    forms = _find(element, "wps:Data|wps:Reference")
    data = _find(element, "wps:Data/*")
    # The schema has one of the forms, once; an empty one beside another is still a second.
    if len(forms) > 1 or len(data) > 1:
        raise MalformedRequest(
            f"The input {name[:80]!r} has more than one value in one Input element."
        )
    if forms and forms[0].tag == f"{{{WPS}}}Reference":
        return _reference(name, forms[0])
    if not data:
        raise MissingParameterValue(f"The input {name[:80]} has no value.", name)
    if text_around(forms[0]):
        raise InvalidParameterValue(f"{name[:80]} has text beside its value's element.", name)
    if data[0].tag == f"{{{WPS}}}LiteralData":
        check_literal(name, data[0].get("dataType"), data[0].get("uom"))
        return InputValue(text=plain_text(name, data[0]))
    if data[0].tag == f"{{{WPS}}}ComplexData":
        return _complex_data(name, data[0])
    raise InvalidParameterValue(
        f"{name[:80]} is given as something else than a value or a file.", name
    )


def _complex_data(name: str, element: Element) -> InputValue:
    mime_type = element.get("mimeType") or (XML if len(element) else None)
    text = embedded_text(name, element)
    return complex_value(name, text, mime_type=mime_type, encoding=element.get("encoding"))


def _reference(name: str, element: Element) -> InputValue:
    href = element.get(f"{{{XLINK}}}href") or ""
    if not href or elements_in(element):
        raise InvalidParameterValue(
            f"{name[:80]} is a reference without address, or one with headers or a body.", name
        )
    if element.get("method", "GET").upper() != "GET":
        raise InvalidParameterValue(f"{name[:80]} is a reference; only GET is used for it.", name)
    return InputValue(href=href, is_file=True)


def _response_form(root: Element) -> ResponseForm:
    raws = _find(root, "wps:ResponseForm/wps:RawDataOutput")
    documents = _find(root, "wps:ResponseForm/wps:ResponseDocument")
    if len(raws) + len(documents) > 1:
        raise MalformedRequest("The ResponseForm asks for more than one form.")
    if raws:
        return ResponseForm(raw=_output(raws[0], is_raw=True))
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


def _output(element: Element, *, is_raw: bool = False) -> OutputRequest:
    wanted = OutputRequest(
        identifier=_identifier(element),
        as_reference=_flag(element, "asReference"),
        mime_type=media_type(element.get("mimeType")),
    )
    check_output_form(
        wanted,
        encoding=element.get("encoding", ""),
        others={name: element.get(name, "") for name in ("schema", "uom")},
        is_raw=is_raw,
    )
    return wanted


def _flag(element: Element, name: str) -> bool:
    return truth(element.get(name, "false"), name)


def _find(element: Element, path: str) -> Sequence[Element]:
    return find(element, path, _NAMESPACES)


def _texts(element: Element, path: str) -> list[str]:
    return texts(element, path, _NAMESPACES)


_READERS: Mapping[str, Callable[[Element], Operation]] = {
    "GetCapabilities": _get_capabilities,
    "DescribeProcess": _describe_process,
    "Execute": _execute,
}

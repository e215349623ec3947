"""WPS 2.0 operations in XML: the body of a POST request, read strictly (14-065, XML binding)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lxml import etree

from die_algorithm.errors import (
    InvalidParameterValue,
    MalformedRequest,
    MissingParameterValue,
    OperationNotSupported,
)
from die_algorithm.inline_content import complex_value
from die_algorithm.job_request import check_given_once, check_name
from die_algorithm.models import OutputRequest
from die_algorithm.wps2_errors import NoSuchInput, TooManyInputs, TooManyOutputs
from die_algorithm.wps2_operations import (
    OPERATIONS,
    VERSION,
    Dismiss,
    Format,
    GetResult,
    GetStatus,
    Operation,
    check_identifier,
    check_input_format,
    is_file,
    output_request,
    response_form,
)
from die_algorithm.wps_operations import (
    BLANKS,
    DescribeProcess,
    Execute,
    GetCapabilities,
    InputValue,
    check_literal,
    check_service,
    negotiate_version,
)
from die_algorithm.xml_reader import (
    elements_in,
    embedded_text,
    find,
    plain_text,
    text_around,
    texts,
)
from die_algorithm.xml_writer import OWS_2, WPS_2, XLINK, Element

_NAMESPACES = {"wps": WPS_2, "ows": OWS_2}
_LITERAL_VALUE = f"{{{WPS_2}}}LiteralValue"
_MAX_IDENTIFIERS = 100
_MAX_INPUTS = 50
_MAX_OUTPUTS = 50


def is_wps2_body(root: Element) -> bool:
    """Whether a body speaks WPS 2.0."""
    return etree.QName(root).namespace == WPS_2


def read_wps2(root: Element) -> Operation:
    """Read the operation that a body of WPS 2.0 asks for; its namespace says the version that it leaves out.

    Raises:
        RequestError: it asks for none, or not as the standard wants it; the locator names where.
    """
    name = etree.QName(root).localname
    reader = _READERS.get(name)
    if reader is None:
        raise OperationNotSupported(f"This service offers {', '.join(OPERATIONS)}.", name[:80])
    service = root.get("service")
    if service is None:
        raise MissingParameterValue("The attribute service is missing.", "service")
    check_service(service)
    # The same leniency as in WPS 1.0.0 (check_version).
    if root.get("version", "") not in ("", VERSION):
        raise InvalidParameterValue(
            f"In the namespace {WPS_2} the version is {VERSION}.", "version"
        )
    return reader(root)


def _get_capabilities(root: Element) -> GetCapabilities:
    accepted = tuple(_texts(root, "ows:AcceptVersions/ows:Version"))
    return GetCapabilities(version=negotiate_version(accepted, VERSION))


def _describe_process(root: Element) -> DescribeProcess:
    identifiers = tuple(_texts(root, "ows:Identifier"))
    if not identifiers or not all(identifiers):
        raise MissingParameterValue("The Identifier is missing.", "Identifier")
    if len(identifiers) > _MAX_IDENTIFIERS:
        raise InvalidParameterValue(
            f"More than {_MAX_IDENTIFIERS} processes are asked for.", "Identifier"
        )
    return DescribeProcess(identifiers=identifiers)


def _job_id(root: Element) -> str:
    return _single(root, "wps:JobID", "JobID")


# -- Execute


def _execute(root: Element) -> Execute:
    # First: what is said of inputs and outputs below is said of this process's.
    identifier = _single(root, "ows:Identifier", "Identifier")
    check_identifier(identifier)
    return Execute(
        identifier=identifier,
        inputs=_inputs(root),
        response_form=response_form(root.get("mode", ""), root.get("response", ""), _outputs(root)),
    )


def _inputs(root: Element) -> dict[str, tuple[InputValue, ...]]:
    elements = _find(root, "wps:Input")
    if len(elements) > _MAX_INPUTS:
        raise TooManyInputs(f"More than {_MAX_INPUTS} inputs are given.", "Input")
    inputs: dict[str, tuple[InputValue, ...]] = {}
    for element in elements:
        name = _id(element, "Input")
        check_name(name, NoSuchInput)
        inputs[name] = (*inputs.get(name, ()), _input_value(name, element))
    check_given_once(inputs, TooManyInputs)
    return inputs


def _input_value(name: str, element: Element) -> InputValue:
    values = _find(element, "wps:Data|wps:Reference|wps:Input")
    if not values:
        raise MissingParameterValue(f"The input {name[:80]} has no value.", name)
    if len(values) > 1:
        raise TooManyInputs(f"{name[:80]} has more than one value; give it one.", name)
    match etree.QName(values[0]).localname:
        case "Data":
            return _data(name, values[0])
        case "Reference":
            return _reference(name, values[0])
    raise InvalidParameterValue(f"{name[:80]} is one value; it has no inputs inside.", name)


def _data(name: str, element: Element) -> InputValue:
    given = _format(element)
    check_input_format(name, given)
    inside = elements_in(element)
    holds_literal = len(inside) == 1 and inside[0].tag == _LITERAL_VALUE
    if is_file(name, given) and not holds_literal:
        text = embedded_text(name, element)
        return complex_value(name, text, mime_type=given.mime_type, encoding=given.encoding)
    content = _literal_value(name, element) if inside else element
    # Editors and serialisers indent what stands alone; no literal here has blanks of its own.
    return InputValue(text=plain_text(name, content).strip(BLANKS))


def _literal_value(name: str, data: Element) -> Element:
    """The wps:LiteralValue in a wps:Data, which holds nothing else."""
    first, *others = elements_in(data)
    if others or first.tag != _LITERAL_VALUE or text_around(data):
        raise InvalidParameterValue(
            f"{name[:80]} must be plain text or one wps:LiteralValue, without other elements or "
            "comments.",
            name,
        )
    check_literal(name, first.get("dataType"), first.get("uom"))
    return first


def _reference(name: str, element: Element) -> InputValue:
    href = element.get(f"{{{XLINK}}}href") or ""
    if not href or elements_in(element):
        raise InvalidParameterValue(
            f"{name[:80]} is a reference without address, or one with a body.", name
        )
    return InputValue(href=href, is_file=True)


def _outputs(root: Element) -> tuple[OutputRequest, ...]:
    elements = _find(root, "wps:Output")
    if len(elements) > _MAX_OUTPUTS:
        raise TooManyOutputs(f"More than {_MAX_OUTPUTS} outputs are asked for.", "Output")
    return tuple(_output(element) for element in elements)


def _output(element: Element) -> OutputRequest:
    name = _id(element, "Output")
    if elements_in(element):
        raise InvalidParameterValue(f"{name[:80]} is one value; it has no outputs inside.", name)
    return output_request(name, _format(element), element.get("transmission", ""))


def _format(element: Element) -> Format:
    return Format(
        # Without parameters such as a charset.
        mime_type=element.get("mimeType", "").partition(";")[0].strip(BLANKS).lower(),
        encoding=element.get("encoding", ""),
        schema=element.get("schema", ""),
    )


# -- elements


def _id(element: Element, what: str) -> str:
    name = element.get("id", "").strip(BLANKS)
    if not name:
        raise MissingParameterValue(f"An {what} has no attribute id.", "id")
    return name


def _single(element: Element, path: str, name: str) -> str:
    found = _texts(element, path)
    if not found or not found[0]:
        raise MissingParameterValue(f"The element {name} is missing.", name)
    if len(found) > 1:
        raise MalformedRequest(f"The element {name} is given more than once.")
    return found[0]


def _find(element: Element, path: str) -> Sequence[Element]:
    return find(element, path, _NAMESPACES)


def _texts(element: Element, path: str) -> list[str]:
    return texts(element, path, _NAMESPACES)


_READERS: Mapping[str, Callable[[Element], Operation]] = {
    "GetCapabilities": _get_capabilities,
    "DescribeProcess": _describe_process,
    "Execute": _execute,
    "GetStatus": lambda root: GetStatus(job_id=_job_id(root)),
    "GetResult": lambda root: GetResult(job_id=_job_id(root)),
    "Dismiss": lambda root: Dismiss(job_id=_job_id(root)),
}

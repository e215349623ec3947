"""The documents of WPS 2.0 about the service: Capabilities and ProcessOfferings (14-065, clause 9)."""

from __future__ import annotations

from collections.abc import Sequence

from die_algorithm import description
from die_algorithm.capabilities import write_service
from die_algorithm.description import InputDescription, OutputDescription
from die_algorithm.wps2_operations import (
    LITERAL_FORMATS,
    OPERATIONS,
    VERSION,
    output_formats,
)
from die_algorithm.wps_operations import BASE64, LANGUAGES, SPOKEN
from die_algorithm.xml_writer import (
    LANGUAGE,
    OWS_2,
    WPS_2,
    XLINK,
    XML_LANG,
    Element,
    child,
    root,
    serialise,
)

_JOB_CONTROL = "sync-execute async-execute dismiss"
_TRANSMISSION = "value reference"
_STRING = "http://www.w3.org/2001/XMLSchema#string"


def wps2_capabilities(service_url: str) -> bytes:
    """The wps:Capabilities.

    Args:
        service_url: where the WPS answers.
    """
    document = root(WPS_2, "Capabilities", wps=WPS_2, ows=OWS_2, xlink=XLINK)
    document.set("service", "WPS")
    document.set("version", VERSION)
    write_service(document, OWS_2, SPOKEN[::-1], service_url)
    _write_operations(document, service_url)
    languages = child(document, OWS_2, "Languages")
    for language in LANGUAGES:
        child(languages, OWS_2, "Language", language)
    summary = child(child(document, WPS_2, "Contents"), WPS_2, "ProcessSummary")
    _set_properties(summary)
    _write_description(summary, description.TITLE, description.ABSTRACT, description.IDENTIFIER)
    return serialise(document)


def process_offerings() -> bytes:
    """The wps:ProcessOfferings of the one process."""
    document = root(WPS_2, "ProcessOfferings", wps=WPS_2, ows=OWS_2)
    offering = child(document, WPS_2, "ProcessOffering")
    _set_properties(offering)
    process = child(offering, WPS_2, "Process")
    process.set(XML_LANG, LANGUAGE)
    _write_description(process, description.TITLE, description.ABSTRACT, description.IDENTIFIER)
    for described in description.INPUTS:
        _write_input(process, described)
    for output in description.OUTPUTS:
        _write_output(process, output)
    return serialise(document)


def _write_operations(document: Element, service_url: str) -> None:
    metadata = child(document, OWS_2, "OperationsMetadata")
    for name in OPERATIONS:
        operation = child(metadata, OWS_2, "Operation")
        operation.set("name", name)
        http = child(child(operation, OWS_2, "DCP"), OWS_2, "HTTP")
        if name != "Execute":  # it has no key-value pairs
            child(http, OWS_2, "Get").set(f"{{{XLINK}}}href", f"{service_url}?")
        child(http, OWS_2, "Post").set(f"{{{XLINK}}}href", service_url)


def _set_properties(element: Element) -> None:
    element.set("jobControlOptions", _JOB_CONTROL)
    element.set("outputTransmission", _TRANSMISSION)
    element.set("processVersion", description.VERSION)


def _write_description(element: Element, title: str, abstract: str, identifier: str) -> None:
    child(element, OWS_2, "Title", title)
    child(element, OWS_2, "Abstract", abstract)
    child(element, OWS_2, "Identifier", identifier)


def _write_input(process: Element, described: InputDescription) -> None:
    element = child(process, WPS_2, "Input")
    element.set("minOccurs", str(described.min_occurs))
    element.set("maxOccurs", "1")
    _write_description(element, described.title, described.abstract, described.identifier)
    if described.formats:
        _write_formats(child(element, WPS_2, "ComplexData"), described.formats)
        return
    literal = child(element, WPS_2, "LiteralData")
    _write_formats(literal, LITERAL_FORMATS)
    # The schema declares this one element without its namespace.
    domain = child(literal, None, "LiteralDataDomain")
    domain.set("default", "true")
    child(domain, OWS_2, "AnyValue")
    child(domain, OWS_2, "DataType", "string").set(f"{{{OWS_2}}}reference", _STRING)


def _write_output(process: Element, output: OutputDescription) -> None:
    element = child(process, WPS_2, "Output")
    _write_description(element, output.title, output.abstract, output.identifier)
    data = child(element, WPS_2, "ComplexData")
    _write_formats(data, output_formats(output))
    if output.identifier == description.RESULT:
        # By value in a document; bare and by reference it is the zip itself.
        _write_format(data, description.ZIP).set("encoding", BASE64)


def _write_formats(data: Element, formats: Sequence[str]) -> None:
    for number, mime_type in enumerate(formats):
        written = _write_format(data, mime_type)
        if number == 0:
            written.set("default", "true")


def _write_format(data: Element, mime_type: str) -> Element:
    element = child(data, WPS_2, "Format")
    element.set("mimeType", mime_type)
    return element

"""The documents about the service: Capabilities and ProcessDescriptions (05-007r7, clauses 8 and 9).

DataMiner's portal asks more of them than the schemas do: every operation has a Post, the title in the
capabilities begins with a category, the descriptions can be cut out line by line and use no prefix but
wps, ows and xsi (reference: dataminer-wps, 2.3).
"""

from __future__ import annotations

from collections.abc import Sequence

from die_algorithm import description
from die_algorithm.description import InputDescription, OutputDescription
from die_algorithm.wps_operations import LANGUAGES, VERSION
from die_algorithm.xml_writer import (
    LANGUAGE,
    OWS,
    WPS,
    XLINK,
    XML_LANG,
    Element,
    child,
    root,
    serialise,
)

_OPERATIONS = ("GetCapabilities", "DescribeProcess", "Execute")
_STRING = "http://www.w3.org/TR/xmlschema-2/#string"


def capabilities(service_url: str) -> bytes:
    """The wps:Capabilities.

    Args:
        service_url: where the WPS answers.
    """
    document = root(WPS, "Capabilities", wps=WPS, ows=OWS, xlink=XLINK)
    document.set("service", "WPS")
    document.set("version", VERSION)
    document.set(XML_LANG, LANGUAGE)
    write_service(document, OWS, (VERSION,), service_url)
    _write_operations(document, service_url)
    offerings = child(document, WPS, "ProcessOfferings")
    process = child(offerings, WPS, "Process")
    process.set(f"{{{WPS}}}processVersion", description.VERSION)
    child(process, OWS, "Identifier", description.IDENTIFIER)
    child(process, OWS, "Title", f"{description.CATEGORY}:{description.TITLE}")
    child(process, OWS, "Abstract", description.ABSTRACT)
    languages = child(document, WPS, "Languages")
    child(child(languages, WPS, "Default"), OWS, "Language", LANGUAGE)
    supported = child(languages, WPS, "Supported")
    for language in LANGUAGES:
        child(supported, OWS, "Language", language)
    return serialise(document)


def write_service(document: Element, ows: str, versions: Sequence[str], service_url: str) -> None:
    """Write who offers the service, which is alike in all versions.

    Args:
        document: the capabilities.
        ows: the namespace of OWS Common in that version.
        versions: of the service type.
        service_url: where the service answers.
    """
    identification = child(document, ows, "ServiceIdentification")
    child(identification, ows, "Title", description.TITLE)
    child(identification, ows, "Abstract", description.ABSTRACT)
    child(identification, ows, "ServiceType", "WPS")
    for version in versions:
        child(identification, ows, "ServiceTypeVersion", version)
    provider = child(document, ows, "ServiceProvider")
    child(provider, ows, "ProviderName", description.CATEGORY)
    child(provider, ows, "ProviderSite").set(f"{{{XLINK}}}href", service_url)
    child(provider, ows, "ServiceContact")


def _write_operations(document: Element, service_url: str) -> None:
    metadata = child(document, OWS, "OperationsMetadata")
    for name in _OPERATIONS:
        operation = child(metadata, OWS, "Operation")
        operation.set("name", name)
        http = child(child(operation, OWS, "DCP"), OWS, "HTTP")
        for method in ("Get", "Post"):
            child(http, OWS, method).set(f"{{{XLINK}}}href", f"{service_url}?")


def process_descriptions(identifiers: Sequence[str]) -> bytes:
    """The wps:ProcessDescriptions of the processes named; ``ALL`` names every one (52North).

    Raises:
        InvalidParameterValue: there is no such process.
    """
    for identifier in identifiers:
        if identifier.upper() != "ALL":
            description.check_identifier(identifier)
    document = root(WPS, "ProcessDescriptions", wps=WPS, ows=OWS)
    document.set("service", "WPS")
    document.set("version", VERSION)
    document.set(XML_LANG, LANGUAGE)
    process = child(document, None, "ProcessDescription")
    process.set(f"{{{WPS}}}processVersion", description.VERSION)
    process.set("storeSupported", "true")
    process.set("statusSupported", "true")
    child(process, OWS, "Identifier", description.IDENTIFIER)
    child(process, OWS, "Title", description.TITLE)
    child(process, OWS, "Abstract", description.ABSTRACT)
    inputs = child(process, None, "DataInputs")
    for described in description.INPUTS:
        _write_input(inputs, described)
    outputs = child(process, None, "ProcessOutputs")
    for output in description.OUTPUTS:
        _write_output(outputs, output)
    return serialise(document)


def _write_input(inputs: Element, described: InputDescription) -> None:
    element = child(inputs, None, "Input")
    element.set("minOccurs", str(described.min_occurs))
    element.set("maxOccurs", "1")
    child(element, OWS, "Identifier", described.identifier)
    child(element, OWS, "Title", described.title)
    child(element, OWS, "Abstract", described.abstract)
    if described.formats:
        _write_formats(child(element, None, "ComplexData"), described.formats)
        return
    literal = child(element, None, "LiteralData")
    child(literal, OWS, "DataType", "string").set(f"{{{OWS}}}reference", _STRING)
    child(literal, OWS, "AnyValue")


def _write_output(outputs: Element, output: OutputDescription) -> None:
    element = child(outputs, None, "Output")
    child(element, OWS, "Identifier", output.identifier)
    child(element, OWS, "Title", output.title)
    child(element, OWS, "Abstract", output.abstract)
    _write_formats(child(element, None, "ComplexOutput"), output.formats)


def _write_formats(element: Element, formats: Sequence[str]) -> None:
    default = child(child(element, None, "Default"), None, "Format")
    child(default, None, "MimeType", formats[0])
    supported = child(element, None, "Supported")
    for mime_type in formats:
        child(child(supported, None, "Format"), None, "MimeType", mime_type)

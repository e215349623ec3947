"""WPS operations in key-value pairs: the query of a GET request, read as real clients write it.

PyWPS splits values at every ``=``, ``@`` and ``;`` and drops what it cannot read without a word
(reference: pywps 6, rows 19-32). Here only ``;`` separates inputs, the first ``=`` ends a name, and
``@`` starts an attribute only if a known attribute's name follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, unquote_plus

from die_algorithm.description import check_identifier, check_output_form
from die_algorithm.errors import (
    InvalidParameterValue,
    MalformedRequest,
    MissingParameterValue,
    OperationNotSupported,
)
from die_algorithm.inline_content import complex_value
from die_algorithm.job_request import FILE_PARAM, ITEM_PARAM, check_name
from die_algorithm.models import OutputRequest, ResponseForm
from die_algorithm.wps_operations import (
    BLANKS,
    SPOKEN,
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

_MAX_PARAMETERS = 200
_MAX_PARTS = 50
_BROKEN_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ATTRIBUTE = re.compile(
    r"@(?=(?:mimeType|format|encoding|schema|datatype|uom|method|asReference|xlink:href|href)=)",
    re.IGNORECASE,
)

#: Two names of one: the standard's examples call it Format (05-007r7, 10.2.2.1).
_SAME_ATTRIBUTES = {"format": "mimetype", "xlink:href": "href"}
_ESCAPED = "If it belongs to the text, percent-encode the '@' twice (%2540)."
#: What clients say of the format of plain text.
_TEXT_FORMATS = {
    "mimetype": re.compile(r"(?:[\w.+-]+/[\w.+-]+(?:;[^@]*)?)?", re.ASCII),
    "encoding": re.compile(
        r"(?:utf-?8|us-ascii|ascii|7bit|8bit|base64)?", re.ASCII | re.IGNORECASE
    ),
}

Query = Mapping[str, tuple[str, ...]]


def read_query(query_string: bytes) -> dict[str, tuple[str, ...]]:
    """Split the query of a request; curl sends what it is given, escaped or not.

    Raises:
        MalformedRequest: as :func:`parse_query`.
    """
    try:
        return parse_query(query_string.decode())
    except UnicodeDecodeError:
        raise MalformedRequest("The query is not UTF-8.") from None


def parse_query(query_string: str) -> dict[str, tuple[str, ...]]:
    """Split a query into its parameters: names in lower case, values decoded once.

    Raises:
        MalformedRequest: there are too many, or an escape is broken or not UTF-8.
    """
    pairs = [part for part in query_string.split("&") if part]
    if len(pairs) > _MAX_PARAMETERS:
        raise MalformedRequest(f"The query has more than {_MAX_PARAMETERS} parameters.")
    parameters: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        parameters.setdefault(_decoded(name).lower(), []).append(_decoded(value))
    return {name: tuple(values) for name, values in parameters.items()}


def parse_kvp(query: Query) -> Operation:
    """Read the operation that a query asks for.

    Raises:
        RequestError: it asks for none, or not as the standard wants it; the locator names where.
    """
    check_service(required(query, "service"))
    request = required(query, "request")
    language = optional(query, "language")
    if language:
        check_language(language)
    match request.lower():
        case "getcapabilities":
            return _get_capabilities(query)
        case "describeprocess":
            check_version(optional(query, "version"))
            return _describe_process(query)
        case "execute":
            check_version(optional(query, "version"))
            return _execute(query)
    raise OperationNotSupported(
        "WPS 1.0.0 has GetCapabilities, DescribeProcess and Execute; ask for what WPS 2.0.0 has "
        "beside them with version=2.0.0.",
        request[:80],
    )


def _get_capabilities(query: Query) -> GetCapabilities:
    accepted = listed(optional(query, "AcceptVersions"))
    version = optional(query, "version")
    if version and not accepted and version not in SPOKEN:
        check_version(version)
    return GetCapabilities(version=negotiate_version(accepted))


def _describe_process(query: Query) -> DescribeProcess:
    identifiers = listed(optional(query, "Identifier"))
    if not identifiers:
        raise MissingParameterValue("The parameter Identifier is missing.", "Identifier")
    return DescribeProcess(identifiers=identifiers)


def _execute(query: Query) -> Execute:
    identifier = required(query, "Identifier")
    check_identifier(identifier)
    return Execute(
        identifier=identifier,
        inputs=_inputs(optional(query, "DataInputs")),
        response_form=_response_form(query),
    )


def _inputs(text: str) -> dict[str, tuple[InputValue, ...]]:
    inputs: dict[str, tuple[InputValue, ...]] = {}
    for part in _parts(text, "DataInputs"):
        name, separator, rest = part.partition("=")
        if not separator or not name.strip(BLANKS):
            raise InvalidParameterValue(
                "DataInputs must be name=value pairs separated by ';'; a value that holds ';' must be "
                "percent-encoded twice.",
                "DataInputs",
            )
        name = _decoded_again(name.strip(BLANKS))
        check_name(name)
        inputs[name] = (*inputs.get(name, ()), _input_value(name, rest))
    return inputs


def _input_value(name: str, text: str) -> InputValue:
    value, *attributes = _ATTRIBUTE.split(text)
    given = _attributes(name, attributes)
    check_literal(name, given.get("datatype"), given.get("uom"))
    href = given.get("href")
    if href and value:
        raise InvalidParameterValue(f"{name[:80]} is given as a value and by reference.", name)
    if href:
        _check_method(name, given.get("method"))
        return InputValue(href=href, is_file=True)
    text = _decoded_again(value)
    # What is no file has no format; some clients write one to every value.
    if name in (FILE_PARAM, ITEM_PARAM) and given.keys() & {"mimetype", "encoding"}:
        # A schema is passed over, as it is in XML: a file is handed on as it is.
        _refuse_attributes(name, given, ("method", "asreference"))
        return complex_value(
            name, text, mime_type=given.get("mimetype"), encoding=given.get("encoding")
        )
    odd = [each for each, form in _TEXT_FORMATS.items() if not form.fullmatch(given.get(each, ""))]
    _refuse_attributes(name, given, ("schema", "method", "asreference", *odd))
    return InputValue(text=text)


def _refuse_attributes(name: str, given: Mapping[str, str], refused: Sequence[str]) -> None:
    """Refuse what looks like an attribute and is more likely a part of the text."""
    odd = [each for each in refused if given.get(each)]
    if odd:
        raise InvalidParameterValue(
            f"{name[:80]} holds '@{odd[0]}=', which begins an attribute that it does not have. {_ESCAPED}",
            name,
        )


def _check_method(name: str, method: str | None) -> None:
    if method and method.upper() != "GET":
        raise InvalidParameterValue(f"{name[:80]} is a reference; only GET is used for it.", name)


def _response_form(query: Query) -> ResponseForm:
    raw = _outputs(query, "RawDataOutput", is_raw=True)
    documents = _outputs(query, "ResponseDocument", is_raw=False)
    # One that is given and names none is refused, too; without any value it is as if it were absent.
    is_asked = bool(optional(query, "RawDataOutput"))
    if is_asked and (len(raw) != 1 or optional(query, "ResponseDocument")):
        raise InvalidParameterValue(
            "RawDataOutput takes one output, and excludes ResponseDocument.", "RawDataOutput"
        )
    return check_response_form(
        ResponseForm(
            raw=raw[0] if raw else None,
            outputs=documents,
            store=_flag(query, "storeExecuteResponse"),
            status=_flag(query, "status"),
            lineage=_flag(query, "lineage"),
        )
    )


def _outputs(query: Query, parameter: str, *, is_raw: bool) -> tuple[OutputRequest, ...]:
    parts = _parts(optional(query, parameter), parameter)
    return tuple(_output(part, parameter, is_raw=is_raw) for part in parts)


def _output(text: str, parameter: str, *, is_raw: bool) -> OutputRequest:
    written, *attributes = _ATTRIBUTE.split(text)
    # Some clients write an output like an input that has attributes alone: ``name=@asReference=true``.
    identifier = _decoded_again(written.strip(BLANKS).removesuffix("="))
    if not identifier:
        raise MissingParameterValue(f"An output in {parameter} has no name.", parameter)
    given = _attributes(identifier, attributes)
    wanted = OutputRequest(
        identifier=identifier,
        as_reference=truth(given.pop("asreference", "false"), "asReference"),
        mime_type=media_type(given.pop("mimetype", None)),
    )
    encoding = given.pop("encoding", "")
    check_output_form(wanted, encoding=encoding, others=given, is_raw=is_raw)
    return wanted


def _attributes(owner: str, parts: Sequence[str]) -> dict[str, str]:
    """What is said of an input or output, by the attributes' usual names in lower case."""
    given: dict[str, str] = {}
    for part in parts:
        written, _, value = part.partition("=")
        name = _SAME_ATTRIBUTES.get(written.lower(), written.lower())
        if name in given:
            raise InvalidParameterValue(
                f"{owner[:80]} has '@{written}=' a second time. {_ESCAPED}", owner
            )
        given[name] = _decoded_again(value)
    return given


def _flag(query: Query, name: str) -> bool:
    return truth(optional(query, name) or "false", name)


def _parts(text: str, locator: str) -> list[str]:
    stripped = text.strip(BLANKS)
    if stripped.startswith("[") and stripped.endswith("]"):
        text = stripped[1:-1]  # as old examples write lists; no name begins so
    parts = [part for part in text.split(";") if part.strip(BLANKS)]
    if len(parts) > _MAX_PARTS:
        raise InvalidParameterValue(f"{locator} has more than {_MAX_PARTS} parts.", locator)
    return parts


def listed(text: str) -> tuple[str, ...]:
    """The parts of a list, which commas separate."""
    return tuple(part.strip(BLANKS) for part in text.split(",") if part.strip(BLANKS))


def required(query: Query, name: str) -> str:
    """The value of a parameter.

    Raises:
        MissingParameterValue: there is none; its name is the locator.
        InvalidParameterValue: there are several.
    """
    value = optional(query, name)
    if not value:
        raise MissingParameterValue(f"The parameter {name} is missing.", name)
    return value


def optional(query: Query, name: str) -> str:
    """The value of a parameter; empty if there is none.

    Raises:
        InvalidParameterValue: there are several.
    """
    values = set(query.get(name.lower(), ()))
    if len(values) > 1 or (name == "DataInputs" and len(query.get("datainputs", ())) > 1):
        raise InvalidParameterValue(f"{name} is given more than once.", name)
    return values.pop() if values else ""


def _decoded(text: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        raise MalformedRequest(
            "The query holds a '%' that is not followed by two hexadecimal digits."
        )
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise MalformedRequest("The query is not UTF-8.") from None


def _decoded_again(text: str) -> str:
    """Decode a value that its writer encoded twice, as the standard asks; leave others alone."""
    if not _ESCAPE.search(text) or _ADDRESS.match(text):
        return text  # one that was encoded twice would not be an address yet
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise MalformedRequest("The query is not UTF-8.") from None

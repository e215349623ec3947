"""The operations of WPS 2.0 (14-065, clause 9) as frozen values, and the rules for what they ask.

Execute, DescribeProcess and GetCapabilities are those of ``wps_operations``: how the answer of an
Execute is wanted is a :class:`ResponseForm` in both versions.
"""

from __future__ import annotations

import dataclasses

from die_algorithm import description
from die_algorithm.description import InputDescription, OutputDescription
from die_algorithm.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    ItemNotAccessible,
    MissingParameterValue,
    RequestError,
)
from die_algorithm.inline_content import named_encoding
from die_algorithm.models import OutputRequest, ResponseForm
from die_algorithm.wps2_errors import (
    DataNotAccessible,
    NoSuchFormat,
    NoSuchMode,
    NoSuchOutput,
    NoSuchProcess,
    SizeExceeded,
    TooManyOutputs,
    WrongInputData,
)
from die_algorithm.wps_operations import (
    BASE64,
    VERSION_2,
    DescribeProcess,
    Execute,
    GetCapabilities,
)

VERSION = VERSION_2
#: In the order in which the capabilities list them.
OPERATIONS = ("GetCapabilities", "DescribeProcess", "Execute", "GetStatus", "GetResult", "Dismiss")
#: The formats of a literal: its bare text, and a wps:LiteralValue.
LITERAL_FORMATS = ("text/plain", "text/xml")

_ALL = "ALL"
_MODES = ("sync", "async", "auto")
_RESPONSES = ("raw", "document")
_TRANSMISSIONS = {"": False, "value": False, "reference": True}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GetStatus:
    """The GetStatus operation."""

    job_id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GetResult:
    """The GetResult operation."""

    job_id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dismiss:
    """The Dismiss operation of the extension of this name."""

    job_id: str


JobOperation = GetStatus | GetResult | Dismiss
Operation = GetCapabilities | DescribeProcess | Execute | JobOperation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """The attributes that say how data is written; empty where they are not given."""

    mime_type: str = ""
    encoding: str = ""
    schema: str = ""


# -- processes


def check_identifier(identifier: str) -> None:
    """Refuse a process that is not offered.

    Raises:
        NoSuchProcess: locator is its name.
    """
    if identifier != description.IDENTIFIER:
        raise NoSuchProcess(
            f"There is no such process here; the one offered is {description.IDENTIFIER}.",
            identifier,
        )


def check_described(identifiers: tuple[str, ...]) -> None:
    """Refuse to describe a process that is not offered; ``ALL`` stands for every one.

    Raises:
        NoSuchProcess: locator is its name.
    """
    for identifier in identifiers:
        if identifier.upper() != _ALL:
            check_identifier(identifier)


# -- Execute


def check_input_format(name: str, given: Format) -> None:
    """Refuse a format in which an input is not offered.

    Raises:
        NoSuchFormat: locator is the input's name.
    """
    formats = _file_formats(name) or LITERAL_FORMATS
    if given.mime_type and given.mime_type not in formats:
        raise NoSuchFormat(f"{name[:80]} is taken as {' or '.join(formats)}.", name)
    encodings = ("", BASE64) if _file_formats(name) else ("",)
    if named_encoding(given.encoding) not in encodings:
        raise NoSuchFormat(f"{name[:80]} is not taken in this encoding; send UTF-8 text.", name)


def is_file(name: str, given: Format) -> bool:
    """Whether what an input holds is a file: it may be one, and says how it is written.

    Without a format it is a literal, such as an item's id.
    """
    return bool(
        _file_formats(name) and (given.mime_type or named_encoding(given.encoding) == BASE64)
    )


def _file_formats(name: str) -> tuple[str, ...]:
    described = _input(name)
    return described.formats if described else ()


def output_request(name: str, given: Format, transmission: str) -> OutputRequest:
    """What is asked for by one output of an Execute.

    Raises:
        NoSuchOutput: the process has none of this name; it is the locator, here and below.
        NoSuchFormat: it is not offered in this format.
        InvalidParameterValue: the transmission is neither ``value`` nor ``reference``.
    """
    output = _output(name)
    formats = output_formats(output)
    right = given.mime_type in ("", *formats) and not given.schema
    if not right or named_encoding(given.encoding) not in _encodings(output):
        raise NoSuchFormat(f"{name} is offered as {' or '.join(formats)}.", name)
    if transmission not in _TRANSMISSIONS:
        raise InvalidParameterValue(
            "The transmission of an output is 'value' or 'reference'.", "transmission"
        )
    return OutputRequest(
        identifier=name,
        as_reference=_TRANSMISSIONS[transmission],
        mime_type=given.mime_type or None,
    )


def output_formats(output: OutputDescription) -> tuple[str, ...]:
    """The media types of an output: without what only DataMiner's portal asks for."""
    return output.formats[:1]


def response_form(mode: str, response: str, outputs: tuple[OutputRequest, ...]) -> ResponseForm:
    """How the answer of an Execute is wanted.

    A job lasts as long as its program, so ``auto`` is asynchronous.

    Args:
        mode: ``sync``, ``async`` or ``auto``.
        response: ``raw`` or ``document``.
        outputs: the outputs asked for; none means all.

    Raises:
        NoSuchMode: the mode is another.
        MissingParameterValue: mode or response is missing, or no output is named for a raw response.
        InvalidParameterValue: the response is of another kind.
        TooManyOutputs: there are several outputs for a raw response, or one of them twice.
    """
    for name, value in (("mode", mode), ("response", response)):
        if not value:
            raise MissingParameterValue(f"The attribute {name} is missing.", name)
    if mode not in _MODES:
        raise NoSuchMode(f"The mode is one of {', '.join(_MODES)}.", mode)
    if response not in _RESPONSES:
        raise InvalidParameterValue("The response is 'raw' or 'document'.", "response")
    is_raw = response == "raw"
    _check_number(outputs, is_raw=is_raw)
    is_asynchronous = mode != "sync"
    return ResponseForm(
        raw=outputs[0] if is_raw else None,
        outputs=() if is_raw else outputs,
        store=is_asynchronous,
        status=is_asynchronous,
    )


def in_terms_of_wps2(error: RequestError) -> RequestError:
    """The same refusal under the code that WPS 2.0 has for it."""
    if error.locator is None or _input(error.locator) is None:
        return error
    if isinstance(error, ItemNotAccessible):
        return DataNotAccessible(error.text, error.locator)
    if isinstance(error, InvalidParameterValue):
        return WrongInputData(error.text, error.locator)
    if isinstance(error, FileSizeExceeded):
        return SizeExceeded(error.text, error.locator)
    return error


def _check_number(outputs: tuple[OutputRequest, ...], *, is_raw: bool) -> None:
    if is_raw and not outputs:
        raise MissingParameterValue("A raw response needs the Output that it shall be.", "Output")
    if is_raw and len(outputs) > 1:
        raise TooManyOutputs(
            "A raw response is one output; ask for several with response='document'.",
            outputs[1].identifier,
        )
    names = [output.identifier for output in outputs]
    for name in names:
        if names.count(name) > 1:
            raise TooManyOutputs(f"{name} is asked for more than once.", name)


def _input(name: str) -> InputDescription | None:
    return next((known for known in description.INPUTS if known.identifier == name), None)


def _output(name: str) -> OutputDescription:
    for output in description.OUTPUTS:
        if output.identifier == name:
            return output
    names = " and ".join(output.identifier for output in description.OUTPUTS)
    raise NoSuchOutput(f"There is no output of this name; the outputs are {names}.", name)


def _encodings(output: OutputDescription) -> tuple[str, ...]:
    return ("", BASE64) if output.identifier == description.RESULT else ("",)

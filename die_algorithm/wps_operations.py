"""The three operations of WPS 1.0.0 as frozen values, and the rules that all encodings share.

They are the same in WPS 2.0, whose further operations are in ``wps2_operations``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from die_algorithm.errors import InvalidParameterValue, VersionNegotiationFailed
from die_algorithm.models import InputContent, ResponseForm

VERSION = "1.0.0"
VERSION_2 = "2.0.0"
#: The versions that are offered; what says nothing is the first one's.
SPOKEN = (VERSION, VERSION_2)
LANGUAGES = ("en-US", "en")
#: How bytes are written in a document or query (05-007r7, table 22).
BASE64 = "base64"
#: What may stand around names and values (XML 1.0, 2.3). Python would take away all of Unicode's.
BLANKS = " \t\r\n"

# What clients write for "a string": the DescribeProcess's own text, and its usual short forms.
_STRING_TYPES = re.compile(
    r"(?:(?:xs:|xsd:)?string|(?:https?://www\.w3\.org/(?:TR/xmlschema-2/|2001/XMLSchema)#)string"
    r"|urn:ogc:def:dataType:OGC:1\.1:string)",
    re.ASCII,
)
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputValue:
    """One value of an input as the client gave it: text, a reference to a file, or the file itself."""

    #: The text; None for the others.
    text: str | None = None
    #: The reference's address; None for the others. Nothing here ever fetches it.
    href: str | None = None
    #: The file's content; None for the others.
    content: InputContent | None = None
    #: Given as a file: as complex data or by reference, not as a literal.
    is_file: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class GetCapabilities:
    """The GetCapabilities operation (05-007r7, clause 8)."""

    #: The version whose document is wanted.
    version: str = VERSION


@dataclasses.dataclass(frozen=True, kw_only=True)
class DescribeProcess:
    """The DescribeProcess operation (05-007r7, clause 9)."""

    identifiers: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execute:
    """The Execute operation (05-007r7, clause 10; 14-065, clause 9)."""

    identifier: str
    inputs: Mapping[str, tuple[InputValue, ...]]
    response_form: ResponseForm

    def __post_init__(self) -> None:
        for name, texts in self.texts().items():
            for text in (name, *texts):
                if not text.isprintable():
                    shown = name[:80] if name.isprintable() else "An input"
                    raise InvalidParameterValue(
                        f"{shown} holds a line break or another control character; give the value "
                        "alone, with nothing around it.",
                        name,
                    )

    def values(self) -> dict[str, tuple[str | InputContent, ...]]:
        """Each input's values as the client wrote them, a reference by its address."""
        return {
            name: tuple(value.content or value.text or value.href or "" for value in values)
            for name, values in self.inputs.items()
        }

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The same without what is content, which may hold any characters."""
        return {
            name: tuple(value for value in values if isinstance(value, str))
            for name, values in self.values().items()
        }


Operation = GetCapabilities | DescribeProcess | Execute


def check_version(version: str) -> None:
    """Refuse another version than 1.0.0.

    Where a client names none, empty, it means this one. The standard has the version mandatory in
    DescribeProcess and Execute (05-007r7, clauses 9 and 10), but its absence leaves nothing open here, and
    no old script shall fail for want of it.

    Raises:
        InvalidParameterValue: locator ``version``.
    """
    if version not in ("", VERSION):
        raise InvalidParameterValue(
            f"This version of WPS is not spoken here; ask with version={VERSION}.", "version"
        )


def negotiate_version(accepted: tuple[str, ...], unasked: str = VERSION) -> str:
    """The first version of those that a client accepts that is offered (OWS Common 1.1, 7.3.2).

    Args:
        accepted: what it accepts, the best first; empty if it does not say.
        unasked: the version then.

    Raises:
        VersionNegotiationFailed: none fits; the standard knows no locator here.
    """
    if not accepted:
        return unasked
    for version in accepted:
        if version in SPOKEN:
            return version
    raise VersionNegotiationFailed(
        f"This service speaks WPS {' and '.join(SPOKEN)}; neither is among the versions you accept."
    )


def check_service(service: str) -> None:
    """Refuse another service type than WPS.

    Raises:
        InvalidParameterValue: locator ``service``.
    """
    if service.upper() != "WPS":
        raise InvalidParameterValue("This is a WPS; ask with service=WPS.", "service")


def check_language(language: str) -> None:
    """Refuse a language that is not offered.

    Raises:
        InvalidParameterValue: locator ``language``.
    """
    # RFC 5646, 2.1.1: case carries no meaning.
    if language.lower() not in {offered.lower() for offered in LANGUAGES}:
        raise InvalidParameterValue(
            f"This service speaks {' and '.join(LANGUAGES)} only.", "language"
        )


def media_type(text: str | None) -> str | None:
    """A media type without its parameters, in lower case; None if there is none."""
    return (text or "").partition(";")[0].strip(BLANKS).lower() or None


def check_literal(name: str, data_type: str | None, uom: str | None) -> None:
    """Refuse that a client changes what a literal is; repeating its type is no change.

    Raises:
        InvalidParameterValue: locator is the input's name.
    """
    if data_type and not _STRING_TYPES.fullmatch(data_type):
        raise InvalidParameterValue(f"{name[:80]} is a string, not {data_type[:40]!r}.", name)
    if uom:
        raise InvalidParameterValue(f"{name[:80]} is a string and has no unit of measure.", name)


def truth(text: str, name: str) -> bool:
    """Read an xs:boolean.

    Raises:
        InvalidParameterValue: it is none.
    """
    try:
        return _TRUTH[text.strip(BLANKS).lower()]
    except KeyError:
        raise InvalidParameterValue(f"{name} must be 'true' or 'false'.", name) from None


def check_response_form(form: ResponseForm) -> ResponseForm:
    """Refuse a status without storage (05-007r7, table 50: the service shall raise an exception).

    A bare output has no document that could be stored; only key-value pairs can ask for both.

    Raises:
        InvalidParameterValue: locator ``status`` or ``RawDataOutput``.
    """
    if form.raw and (form.store or form.status):
        raise InvalidParameterValue(
            "RawDataOutput is the bare output: leave storeExecuteResponse and status out, or ask "
            "with ResponseDocument.",
            "RawDataOutput",
        )
    if form.status and not form.store:
        raise InvalidParameterValue(
            "status=true needs storeExecuteResponse=true: without it there is no document to update.",
            "status",
        )
    return form

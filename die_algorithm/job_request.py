"""From the words a client wrote to a checked :class:`JobRequest`: what the three inputs may be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Container, Mapping, Sequence

from die_algorithm.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    MissingParameterValue,
    RequestError,
)
from die_algorithm.image_reference import DOCKER_HUB, ImageReference
from die_algorithm.item_reference import ItemReference, parse_item_reference, without_query
from die_algorithm.models import ContentDigest, InputContent, JobRequest
from die_algorithm.public_link import TrustedHosts

IMAGE = "Image"
COMMAND_NAME = "CommandName"
#: The input's name at publication, and the one it was renamed to (reference: dataminer-wps, item 2).
FILE_PARAM = "FileParam"
ITEM_PARAM = "ItemParam"
INPUTS = (IMAGE, COMMAND_NAME, FILE_PARAM, ITEM_PARAM)

_MAX_COMMAND = 1024
_MAX_WORDS = 32
_SHOWN_CONTENT = 1000
_FIRST_WORD = re.compile(r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]*", re.ASCII)
_SHELL = re.compile(r"[\"'`$;&|<>\\*?(){}\[\]!#~^]")


def parse_job_request(
    inputs: Mapping[str, Sequence[str | InputContent]],
    storagehub_url: str,
    trusted: TrustedHosts,
    registries: Collection[str] = (DOCKER_HUB,),
) -> JobRequest:
    """Check the inputs of an Execute and parse them once.

    Args:
        inputs: each input's values by its name, as the client wrote them.
        storagehub_url: the workspace's address; items below it are taken as URLs.
        trusted: the hosts whose public links are taken.
        registries: those that the image may be of.

    Raises:
        MissingParameterValue: an input is absent.
        InvalidParameterValue: an input is unknown, given twice, or not what it should be.
        FileSizeExceeded: CommandName is longer than a command line should be.
    """
    for name in inputs:
        check_name(name)
    check_given_once(inputs)
    image = _text(inputs, IMAGE)
    command = _text(inputs, COMMAND_NAME)
    parameter = item_parameter(inputs)
    item = _single(inputs, parameter)
    if isinstance(item, InputContent):
        reference, content, given = ItemReference(), _digest(item), _shown(item)
    else:
        reference = parse_item_reference(item, storagehub_url, trusted, parameter)
        content, given = None, without_query(item)
    return JobRequest(
        image=ImageReference.parse(image, registries).canonical,
        command=parse_command(command),
        item_id=reference.item_id,
        item_parameter=parameter,
        given_image=image,
        given_command=command,
        given_item=given,
        item_path=reference.path,
        path_owner=reference.path_owner,
        link=reference.link,
        content=content,
    )


def check_name(name: str, refusal: type[RequestError] = InvalidParameterValue) -> None:
    """Refuse an input that the process does not have.

    Args:
        name: the input's.
        refusal: as what; the version that is spoken may have an error of its own.

    Raises:
        RequestError: the refusal; locator is the name.
    """
    if name not in INPUTS:
        raise refusal(
            f"There is no input of this name; the inputs are {', '.join(INPUTS[:-1])} (or "
            f"{ITEM_PARAM}).",
            name,
        )


def check_given_once(
    inputs: Mapping[str, Sequence[object]], refusal: type[RequestError] = InvalidParameterValue
) -> None:
    """Refuse inputs that are given more than once, or under both names of the file.

    Args:
        inputs: each input's values by its name.
        refusal: as for :func:`check_name`.

    Raises:
        RequestError: the refusal; locator is the input's name.
    """
    for name, values in inputs.items():
        if len(values) > 1:
            raise refusal(f"{name} is given {len(values)} times; give it once.", name)
    if FILE_PARAM in inputs and ITEM_PARAM in inputs:
        raise refusal(
            f"{FILE_PARAM} and {ITEM_PARAM} are two names of the same input; give one of them.",
            ITEM_PARAM,
        )


def item_parameter(inputs: Container[str]) -> str:
    """The name under which the item is given."""
    return ITEM_PARAM if ITEM_PARAM in inputs else FILE_PARAM


def _digest(content: InputContent) -> ContentDigest:
    digest = hashlib.sha256(content.data).hexdigest()
    return ContentDigest(media_type=content.media_type, size=len(content.data), sha256=digest)


def _shown(content: InputContent) -> str:
    """What ``lineage`` repeats of content: its beginning, if that is text."""
    try:
        text = content.data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        return f"{len(content.data)} bytes of {content.media_type}"
    return text[:_SHOWN_CONTENT]


def parse_command(text: str) -> tuple[str, ...]:
    """Split CommandName into the words of the command; no shell ever reads them.

    Raises:
        InvalidParameterValue: it is empty, not plain ASCII, or written for a shell.
        FileSizeExceeded: it is longer than 1024 characters.
    """
    if len(text) > _MAX_COMMAND:
        raise FileSizeExceeded(
            f"CommandName has {len(text)} characters; {_MAX_COMMAND} are allowed.", COMMAND_NAME
        )
    if not text.strip(" "):
        raise InvalidParameterValue(
            "CommandName is empty; give the name of the command to run, for example 'sortapp'.",
            COMMAND_NAME,
        )
    if text != text.strip(" ") or not all(" " <= character <= "~" for character in text):
        raise InvalidParameterValue(
            "CommandName may hold printable ASCII characters only, with no blanks at its ends.",
            COMMAND_NAME,
        )
    if _SHELL.search(text):
        raise InvalidParameterValue(
            "CommandName holds a character that only a shell understands, and no shell is used: give "
            "the command and its arguments as plain words separated by blanks.",
            COMMAND_NAME,
        )
    words = tuple(text.split())
    if len(words) > _MAX_WORDS or not _FIRST_WORD.fullmatch(words[0]):
        raise InvalidParameterValue(
            f"CommandName must be the name or path of a command, with at most {_MAX_WORDS - 1} "
            "arguments.",
            COMMAND_NAME,
        )
    return words


def _text(inputs: Mapping[str, Sequence[str | InputContent]], name: str) -> str:
    value = _single(inputs, name)
    if isinstance(value, InputContent):
        raise InvalidParameterValue(f"{name} is a string: give it as a literal.", name)
    return value


def _single(inputs: Mapping[str, Sequence[str | InputContent]], name: str) -> str | InputContent:
    values = inputs.get(name, ())
    if not values:
        hint = f" Give {FILE_PARAM} or {ITEM_PARAM}." if name == FILE_PARAM else ""
        raise MissingParameterValue(f"The input {name} is missing.{hint}", name)
    return values[0]

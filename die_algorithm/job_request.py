"""From the words a client wrote to a checked :class:`JobRequest`: what the three inputs may be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from die_algorithm.errors import FileSizeExceeded, InvalidParameterValue, MissingParameterValue
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import JobRequest

IMAGE = "Image"
COMMAND_NAME = "CommandName"
#: The input's name at publication, and the one it was renamed to (reference: dataminer-wps, item 2).
FILE_PARAM = "FileParam"
ITEM_PARAM = "ItemParam"
INPUTS = (IMAGE, COMMAND_NAME, FILE_PARAM, ITEM_PARAM)

_MAX_COMMAND = 1024
_MAX_WORDS = 32
_MAX_ITEM = 2048
_FIRST_WORD = re.compile(r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]*", re.ASCII)
_SHELL = re.compile(r"[\"'`$;&|<>\\*?(){}\[\]!#~^]")
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,127}", re.ASCII)
_QUERY = re.compile(r"[?#]")
_ITEM_IN_PATH = re.compile(r"(?P<base>.*)/items/(?P<id>[^/]+)(?:/download)?/?")


def parse_job_request(inputs: Mapping[str, Sequence[str]], storagehub_url: str) -> JobRequest:
    """Check the inputs of an Execute and parse them once.

    Args:
        inputs: each input's values by its name, as the client wrote them.
        storagehub_url: the workspace's address; only items below it are taken as URLs.

    Raises:
        MissingParameterValue: an input is absent.
        InvalidParameterValue: an input is unknown, given twice, or not what it should be.
        FileSizeExceeded: CommandName is longer than a command line should be.
    """
    _check_names(inputs)
    image = _single(inputs, IMAGE)
    command = _single(inputs, COMMAND_NAME)
    parameter = ITEM_PARAM if ITEM_PARAM in inputs else FILE_PARAM
    item = _single(inputs, parameter)
    return JobRequest(
        image=ImageReference.parse(image).canonical,
        command=parse_command(command),
        item_id=parse_item(item, storagehub_url, parameter),
        item_parameter=parameter,
        given_image=image,
        given_command=command,
        given_item=_without_query(item),
    )


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


def parse_item(text: str, storagehub_url: str, parameter: str) -> str:
    """Take the item's id from what the client gave: the id itself, or the item's StorageHub URL.

    Raises:
        InvalidParameterValue: it is neither.
    """
    if _ITEM_ID.fullmatch(text):
        return text
    if not text.strip():
        raise InvalidParameterValue(
            f"{parameter} is empty; give the id of a file or folder of your workspace.", parameter
        )
    if len(text) <= _MAX_ITEM and (item_id := _id_in_url(text, storagehub_url)):
        return item_id
    raise InvalidParameterValue(
        f"{parameter} is not the id of a workspace item, nor its address in this service's StorageHub. "
        "Copy the item's id from the workspace (Get info), for example "
        "'2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11'.",
        parameter,
    )


def _id_in_url(text: str, storagehub_url: str) -> str | None:
    match = _ITEM_IN_PATH.fullmatch(_without_query(text))
    if match is None or match["base"].rstrip("/") != storagehub_url:
        return None
    item_id = unquote(match["id"])
    return item_id if _ITEM_ID.fullmatch(item_id) else None


def _without_query(text: str) -> str:
    """The text without what may hold a token: clients write ``…/download?gcube-token=…``."""
    return _QUERY.split(text, maxsplit=1)[0]


def _check_names(inputs: Mapping[str, Sequence[str]]) -> None:
    for name, values in inputs.items():
        if name not in INPUTS:
            raise InvalidParameterValue(
                f"There is no input of this name; the inputs are {', '.join(INPUTS[:-1])} (or "
                f"{ITEM_PARAM}).",
                name,
            )
        if len(values) > 1:
            raise InvalidParameterValue(f"{name} is given {len(values)} times; give it once.", name)
    if FILE_PARAM in inputs and ITEM_PARAM in inputs:
        raise InvalidParameterValue(
            f"{FILE_PARAM} and {ITEM_PARAM} are two names of the same input; give one of them.",
            ITEM_PARAM,
        )


def _single(inputs: Mapping[str, Sequence[str]], name: str) -> str:
    values = inputs.get(name, ())
    if not values:
        hint = f" Give {FILE_PARAM} or {ITEM_PARAM}." if name == FILE_PARAM else ""
        raise MissingParameterValue(f"The input {name} is missing.{hint}", name)
    return values[0]

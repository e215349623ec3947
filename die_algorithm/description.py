"""What the process is called and what it takes and gives: one table for every document.

Identifier, titles and abstracts are those under which DataMiner offered the original, in the form
that its portal reads: an input's title is its description, with a bracketed tag that chooses the
widget for files (reference: dataminer-wps, items 1-5, 2.2 and 2.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.inline_content import named_encoding
from die_algorithm.job_request import COMMAND_NAME, FILE_PARAM, IMAGE, ITEM_PARAM
from die_algorithm.models import OutputRequest, ResponseForm
from die_algorithm.wps_operations import BASE64, InputValue

IDENTIFIER = (
    "org.gcube.dataanalysis.wps.statisticalmanager.synchserver.mappedclasses.transducerers."
    "DOCKER_IMAGE_EXECUTOR"
)
TITLE = "Docker Image Executor"
#: The category of the portal's tree; it stands before the title in the capabilities only.
CATEGORY = "Docker Swarm D4science"
ABSTRACT = (
    "This algorithm allows you to run docker images on Docker Swarm D4Science. The image is run once "
    "with the command line <command-name> <token> <item-id> <temp-dir-item-id>: it fetches the item "
    "from the workspace, and what it writes into the temporary folder comes back as a zip. Note that "
    "the image, and so its author, is given your token."
)
VERSION = "1.1.0"

XML = "text/xml"
ZIP = "application/zip"

#: The output of the original: the addresses of log and zip in a small feature collection.
NON_DETERMINISTIC = "non_deterministic_output"
#: The zip itself, for WPS clients that know nothing of DataMiner.
RESULT = "Result"


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputDescription:
    """One input, as DescribeProcess shows it."""

    identifier: str
    title: str
    min_occurs: int
    #: The media types of a file, the default first; empty for a literal string.
    formats: tuple[str, ...] = ()

    @property
    def abstract(self) -> str:
        """In the words of DataMiner's generated descriptions."""
        return f"Name of the parameter: {self.identifier}. {self.title}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputDescription:
    """One complex output, as DescribeProcess shows it."""

    identifier: str
    title: str
    abstract: str
    #: The media types, the default first.
    formats: tuple[str, ...]


INPUTS = (
    InputDescription(
        identifier=IMAGE,
        title="The repository name of the image to be run, for example d4science/sortapp.",
        min_occurs=1,
    ),
    InputDescription(
        identifier=COMMAND_NAME,
        title="The name of the command that will be executed when the service starts, for example "
        "sortapp.",
        min_occurs=1,
    ),
    # One of the next two is needed; a description of WPS 1.0.0 cannot say so, hence the zeros.
    InputDescription(
        identifier=FILE_PARAM,
        title="The file used as an input parameter for the service: its public link, the id or path of "
        "its workspace item, or its content. [a http link to a file of the workspace]",
        min_occurs=0,
        formats=(
            XML,
            "application/d4science",
            "text/plain",
            "text/csv",
            "application/octet-stream",
            ZIP,
        ),
    ),
    InputDescription(
        identifier=ITEM_PARAM,
        title="The item used as an input parameter for the service: the id or path of a file or "
        "folder of the workspace. Give this or FileParam.",
        min_occurs=0,
    ),
)

# Clients that are told nothing take the first output, so the original's comes first.
OUTPUTS = (
    OutputDescription(
        identifier=NON_DETERMINISTIC,
        title="NonDeterministicOutput",
        abstract="Output that is not predetermined",
        formats=(XML,),
    ),
    OutputDescription(
        identifier=RESULT,
        title="The content of the temporary folder",
        abstract="What the image wrote into the temporary folder, as a zip.",
        formats=(ZIP, XML),
    ),
)


def check_identifier(identifier: str) -> None:
    """Refuse a process that is not offered.

    Raises:
        InvalidParameterValue: locator ``Identifier``.
    """
    if identifier != IDENTIFIER:
        raise InvalidParameterValue(
            f"There is no such process here; the one offered is {IDENTIFIER}.",
            "Identifier",
        )


def check_outputs(form: ResponseForm) -> None:
    """Refuse outputs and formats that the process does not have, and an output asked for twice.

    Raises:
        InvalidParameterValue: locator is the output's name.
    """
    for wanted in (*form.outputs, *([form.raw] if form.raw else ())):
        _check_output(wanted)
    names = [wanted.identifier for wanted in form.outputs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameterValue(f"{name} is asked for more than once.", name)
    if form.raw and form.raw.identifier == RESULT and form.raw.mime_type == XML:
        raise InvalidParameterValue(f"As a bare output, {RESULT} is offered as {ZIP} only.", RESULT)


def check_output_form(
    wanted: OutputRequest, *, encoding: str, others: Mapping[str, str], is_raw: bool
) -> None:
    """Refuse what an output of WPS 1.0.0 is asked to be and is not (05-007r7, tables 49-54).

    In base64 is the zip within a document, and nothing else.

    Args:
        wanted: the output.
        encoding: as the client wrote it; empty if it did not.
        others: other attributes by their names, such as schema and uom; empty ones count as absent.
        is_raw: it is the bare output.

    Raises:
        InvalidParameterValue: locator is the output's name.
    """
    name = wanted.identifier
    is_inline_zip = name == RESULT and wanted.mime_type != XML
    is_inline_zip = is_inline_zip and not (is_raw or wanted.as_reference)
    if named_encoding(encoding) not in ("", *([BASE64] if is_inline_zip else [])):
        raise InvalidParameterValue(
            f"{name[:80]} is not given in the encoding {encoding[:40]!r} in this form; leave the encoding "
            "out.",
            name,
        )
    for attribute, value in others.items():
        if value:
            raise InvalidParameterValue(f"{name[:80]} has no {attribute}; leave it out.", name)


def check_inputs(inputs: Mapping[str, tuple[InputValue, ...]]) -> None:
    """Refuse files and references where a literal belongs (05-007r7, table 48).

    ItemParam may come like FileParam: it is the same input, and scripts only exchange the name.

    Raises:
        InvalidParameterValue: locator is the input's name.
    """
    for name in (IMAGE, COMMAND_NAME):
        if any(value.is_file for value in inputs.get(name, ())):
            raise InvalidParameterValue(
                f"{name} is a string: give it as a literal, not as a file or by reference.", name
            )


def _check_output(wanted: OutputRequest) -> None:
    for output in OUTPUTS:
        if output.identifier == wanted.identifier:
            if wanted.mime_type and wanted.mime_type not in output.formats:
                raise InvalidParameterValue(
                    f"{output.identifier} is offered as {' or '.join(output.formats)}.",
                    output.identifier,
                )
            return
    raise InvalidParameterValue(
        f"There is no output of this name; the outputs are {NON_DETERMINISTIC} and {RESULT}.",
        wanted.identifier,
    )

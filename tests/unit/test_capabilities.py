from __future__ import annotations

import re

import pytest
from lxml import etree
from ogc import NAMESPACES, assert_valid, needs_schemas, text, texts

from die_algorithm.capabilities import capabilities, process_descriptions
from die_algorithm.description import IDENTIFIER, check_identifier
from die_algorithm.errors import InvalidParameterValue

SERVICE = "https://die.example/wps/WebProcessingService"


@pytest.fixture
def offered() -> etree._Element:
    return assert_valid(capabilities(SERVICE))


@pytest.fixture
def described() -> etree._Element:
    return assert_valid(process_descriptions([IDENTIFIER]))


@needs_schemas
def test_both_documents_are_valid() -> None:
    assert_valid(capabilities(SERVICE))
    assert_valid(process_descriptions([IDENTIFIER]))


# -- capabilities


def test_every_operation_has_a_get_and_a_post(offered: etree._Element) -> None:
    assert texts(offered, "//ows:Operation/@name") == [
        "GetCapabilities",
        "DescribeProcess",
        "Execute",
    ]
    for method in ("Get", "Post"):
        hrefs = texts(offered, f"//ows:Operation/ows:DCP/ows:HTTP/ows:{method}/@xlink:href")
        assert hrefs == [f"{SERVICE}?"] * 3


def test_the_portal_finds_category_and_title(offered: etree._Element) -> None:
    title = text(offered, "//wps:Process/ows:Title")
    assert title.partition(":")[::2] == ("Docker Swarm D4science", "Docker Image Executor")
    assert text(offered, "//wps:Process/ows:Identifier") == IDENTIFIER
    assert IDENTIFIER.endswith(".mappedclasses.transducerers.DOCKER_IMAGE_EXECUTOR")
    assert text(offered, "//wps:Process/@wps:processVersion")


def test_the_service_says_its_version_and_languages(offered: etree._Element) -> None:
    assert (offered.get("service"), offered.get("version")) == ("WPS", "1.0.0")
    assert text(offered, "wps:Languages/wps:Default/ows:Language") == "en-US"
    assert "en-US" in texts(offered, "wps:Languages/wps:Supported/ows:Language")


# -- descriptions


def test_inputs_are_those_of_the_original_under_both_names(described: etree._Element) -> None:
    assert texts(described, "//Input/ows:Identifier") == [
        "Image",
        "CommandName",
        "FileParam",
        "ItemParam",
    ]
    assert texts(described, "//Input/@minOccurs") == ["1", "1", "0", "0"]
    assert set(texts(described, "//Input/@maxOccurs")) == {"1"}


def test_every_part_has_the_abstract_that_the_portal_dereferences(
    described: etree._Element,
) -> None:
    for path in ("ProcessDescription", "//Input", "//Output"):
        parts = described.xpath(path)
        assert isinstance(parts, list)
        for part in parts:
            assert isinstance(part, etree._Element)
            assert (part.findtext("ows:Abstract", namespaces=NAMESPACES) or "").strip()
    assert text(described, "ProcessDescription/ows:Title") == "Docker Image Executor"


def test_literals_say_their_type_by_reference(described: etree._Element) -> None:
    assert texts(described, "//LiteralData/ows:DataType/@ows:reference") == [
        "http://www.w3.org/TR/xmlschema-2/#string"
    ] * len(texts(described, "//LiteralData"))


def test_the_file_shows_the_portal_which_widget_to_take(described: etree._Element) -> None:
    title = text(described, "//Input[ows:Identifier='FileParam']/ows:Title")
    assert "[a http link to a file" in title
    assert text(described, "//ComplexData/Default/Format/MimeType") == "text/xml"
    supported = texts(described, "//ComplexData/Supported/Format/MimeType")
    assert {"text/xml", "application/d4science", "text/plain"} <= set(supported)


def test_the_first_output_is_the_one_of_the_original(described: etree._Element) -> None:
    names = texts(described, "//Output/ows:Identifier")
    assert names[0] == "non_deterministic_output"
    assert texts(described, "//Output[1]//MimeType") == ["text/xml", "text/xml"]
    assert "text/xml" in texts(described, "//Output[2]/ComplexOutput/Supported/Format/MimeType")


def test_storing_and_status_are_offered(described: etree._Element) -> None:
    process = described.find("ProcessDescription")
    assert process is not None
    assert (process.get("storeSupported"), process.get("statusSupported")) == ("true", "true")


def cut_by_lines(document: str) -> str:
    """What the portal's library keeps of a ProcessDescriptions (reference: dataminer-wps, 2.3)."""
    kept: list[str] = []
    inside = started = False
    for line in document.splitlines():
        if not started:
            started = "<wps:ProcessDescriptions" in line
        if started and not inside:
            inside = ">" in line.partition("<wps:ProcessDescriptions")[2] or (
                "<wps:ProcessDescriptions" not in line and ">" in line
            )
            continue
        if "</wps:ProcessDescriptions>" in line:
            return "\n".join(kept)
        if inside:
            kept.append(line)
    raise AssertionError("the end of the descriptions has no line of its own")


def test_a_description_can_be_cut_out_by_lines_and_put_into_another_root() -> None:
    kept = cut_by_lines(process_descriptions([IDENTIFIER]).decode())
    assert "xlink:" not in kept
    wrapped = (
        f'<wps:ProcessDescriptions xmlns:wps="{NAMESPACES["wps"]}" xmlns:ows="{NAMESPACES["ows"]}" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" service="WPS" version="1.0.0" '
        f'xml:lang="en-US">{kept}{kept}</wps:ProcessDescriptions>'
    )
    root = assert_valid(wrapped.encode())
    assert texts(root, "ProcessDescription/ows:Identifier") == [IDENTIFIER] * 2


def test_only_three_prefixes_are_used_in_a_description() -> None:
    names = re.findall(r"[<\s/](\w+):\w+[\s=>]", process_descriptions([IDENTIFIER]).decode())
    assert set(names) <= {"wps", "ows", "xml", "xmlns"}


# -- which process


@pytest.mark.parametrize(
    "identifiers", [["ALL"], ["all"], [IDENTIFIER, IDENTIFIER], ["ALL", IDENTIFIER]]
)
def test_all_processes_are_the_one(identifiers: list[str]) -> None:
    assert process_descriptions(identifiers) == process_descriptions([IDENTIFIER])


@pytest.mark.parametrize(
    "identifier", ["x", "", "<script>", "DOCKER_IMAGE_EXECUTOR", IDENTIFIER + "x"]
)
def test_an_unknown_process_is_refused(identifier: str) -> None:
    for call in (check_identifier, lambda name: process_descriptions([IDENTIFIER, name])):
        with pytest.raises(InvalidParameterValue) as refused:
            call(identifier)
        assert refused.value.locator == "Identifier"


def test_all_can_be_described_but_not_executed() -> None:
    with pytest.raises(InvalidParameterValue):
        check_identifier("ALL")

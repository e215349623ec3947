"""What is asked for in WPS 2.0, in both encodings, and how a client wants its answer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from wps2_fixture import OWS, VALUE, WPS, ZIP, data, execute, reference, request

from die_algorithm import errors
from die_algorithm.description import IDENTIFIER, NON_DETERMINISTIC, RESULT
from die_algorithm.errors import RequestError
from die_algorithm.inline_content import complex_value
from die_algorithm.models import InputContent, OutputRequest, ResponseForm
from die_algorithm.wps2_kvp import is_wps2_query, parse_wps2_kvp
from die_algorithm.wps2_operations import (
    Dismiss,
    GetResult,
    GetStatus,
    Operation,
    in_terms_of_wps2,
)
from die_algorithm.wps2_xml import is_wps2_body, read_wps2
from die_algorithm.wps_kvp import parse_query
from die_algorithm.wps_operations import DescribeProcess, Execute, GetCapabilities, InputValue
from die_algorithm.xml_reader import read_root

ITEM = "2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11"
MALFORMED = (400, "NoApplicableCode", None)


def read(body: str | bytes) -> Operation:
    root = read_root(body.encode() if isinstance(body, str) else body)
    assert is_wps2_body(root)
    return read_wps2(root)


def execution(body: str) -> Execute:
    operation = read(body)
    assert isinstance(operation, Execute)
    return operation


def refusal(body: str) -> tuple[int, str, str | None]:
    with pytest.raises(RequestError) as refused:
        execution(body)
    error = in_terms_of_wps2(refused.value)
    return error.http_status, error.code, error.locator


def kvp(query: str) -> Operation:
    return parse_wps2_kvp(parse_query(query))


def test_every_operation_is_read_in_both_encodings() -> None:
    base = "service=WPS&version=2.0.0&request="
    job = "<wps:JobID> x </wps:JobID>"
    identifiers = "<ows:Identifier>a</ows:Identifier><ows:Identifier> b </ows:Identifier>"
    for name, content, query, expected in (
        ("GetCapabilities", "", "", GetCapabilities(version="2.0.0")),
        (
            "DescribeProcess",
            identifiers,
            "&Identifier=a,b",
            DescribeProcess(identifiers=("a", "b")),
        ),
        ("GetStatus", job, "&JobID=x", GetStatus(job_id="x")),
        ("GetResult", job, "&JobID=x", GetResult(job_id="x")),
        ("Dismiss", job, "&JobID=x", Dismiss(job_id="x")),
    ):
        assert read(request(name, content)) == expected
        assert kvp(base + name + query) == expected


@pytest.mark.parametrize(
    ("query", "speaks"),
    [
        ("request=GetStatus", False),
        ("request=GetStatus&version=1.0.0", False),
        ("request=GetStatus&VERSION=2.0.0", True),
        ("request=GetStatus&AcceptVersions=2.0.0", False),
        ("request=getcapabilities&acceptversions=2.0.0,1.0.0", True),
        ("request=getcapabilities&acceptversions=1.0.0&version=2.0.0", False),
        ("request=getcapabilities&acceptversions=3.0.0", False),
    ],
)
def test_a_query_speaks_the_version_that_it_names_or_negotiates(
    query: str, *, speaks: bool
) -> None:
    assert is_wps2_query(parse_query(query)) is speaks


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("service=WPS", (400, "MissingParameterValue", "request")),
        ("service=WPS&request=Explode", (501, "OperationNotSupported", "Explode")),
        ("service=WPS&request=Execute", (501, "OperationNotSupported", "Execute")),
        ("service=WPS&request=GetStatus", (400, "MissingParameterValue", "JobID")),
        (
            "service=WPS&request=Dismiss&JobID=a&jobid=b",
            (400, "InvalidParameterValue", "JobID"),
        ),
        ("service=WPS&request=DescribeProcess", (400, "MissingParameterValue", "Identifier")),
    ],
)
def test_what_is_wrong_with_a_query_is_named(
    query: str, expected: tuple[int, str, str | None]
) -> None:
    with pytest.raises(RequestError) as refused:
        kvp(query)
    assert (refused.value.http_status, refused.value.code, refused.value.locator) == expected


# -- Execute


def file(content: bytes, media_type: str) -> InputValue:
    return InputValue(content=InputContent(data=content, media_type=media_type), is_file=True)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (data("Image", "alpine"), InputValue(text="alpine")),
        (data("Image", "\n  alpine\n"), InputValue(text="alpine")),
        (data("Image", "alpine", 'mimeType="text/plain; charset=UTF-8"'), InputValue(text="alpine")),
        (
            '<wps:Input id="Image"><wps:Data>\n <wps:LiteralValue dataType="'
            'http://www.w3.org/2001/XMLSchema#string">alpine</wps:LiteralValue>\n</wps:Data></wps:Input>',
            InputValue(text="alpine"),
        ),
        (data("FileParam", "abc"), InputValue(text="abc")),
        (data("FileParam", "a,b", 'mimeType="text/csv"'), file(b"a,b", "text/csv")),
        (data("FileParam", "AAE=", 'encoding="base64"'), file(b"\0\1", "application/octet-stream")),
        (data("FileParam", "a,b", 'mimeType="text/csv" encoding="raw"'), file(b"a,b", "text/csv")),
        (
            f'<wps:Input id="FileParam"><wps:Data mimeType="text/xml"><wps:LiteralValue>{ITEM}'
            "</wps:LiteralValue></wps:Data></wps:Input>",
            InputValue(text=ITEM),
        ),
        (
            data("FileParam", "https://x/y", 'mimeType="text/plain"'),
            InputValue(text="https://x/y", is_file=True),
        ),
        (reference("FileParam", "http://x/y?a=b&c"), InputValue(href="http://x/y?a=b&c", is_file=True)),
    ],
)  # fmt: skip
def test_an_input_is_read_as_literal_file_or_reference(written: str, value: InputValue) -> None:
    (values,) = execution(execute(written)).inputs.values()
    assert values == (value,)


@pytest.mark.parametrize("encoding", ["", "raw", "UTF-8", "us-ascii", "7bit", "8bit", "none"])
def test_text_as_it_is_may_be_called_what_it_may_be_in_wps_1(encoding: str) -> None:
    written = execute(data("FileParam", "a,b", f'mimeType="text/csv" encoding="{encoding}"'))
    assert list(execution(written).inputs.values()) == [(file(b"a,b", "text/csv"),)]
    in_wps_1 = complex_value("FileParam", "a,b", mime_type="text/csv", encoding=encoding)
    assert in_wps_1 == file(b"a,b", "text/csv")


def test_elements_are_a_files_content() -> None:
    written = (
        '<wps:Input id="FileParam"><wps:Data mimeType="text/xml"><a>b</a></wps:Data></wps:Input>'
    )
    ((value,),) = execution(execute(written)).inputs.values()
    assert value.content is not None
    assert value.content.media_type == "text/xml"
    document = etree.fromstring(value.content.data)
    assert (etree.QName(document).localname, document.text) == ("a", "b")


NDO = OutputRequest(identifier=NON_DETERMINISTIC)


@pytest.mark.parametrize(
    ("mode", "response", "outputs", "expected"),
    [
        ("sync", "document", "", ResponseForm()),
        ("sync", "document", VALUE, ResponseForm(outputs=(NDO,))),
        ("async", "document", VALUE, ResponseForm(outputs=(NDO,), store=True, status=True)),
        ("auto", "document", VALUE, ResponseForm(outputs=(NDO,), store=True, status=True)),
        ("sync", "raw", VALUE, ResponseForm(raw=NDO)),
        ("async", "raw", VALUE, ResponseForm(raw=NDO, store=True, status=True)),
        (
            "sync",
            "document",
            ZIP.format("reference"),
            ResponseForm(
                outputs=(
                    OutputRequest(
                        identifier=RESULT, as_reference=True, mime_type="application/zip"
                    ),
                )
            ),
        ),
        (
            "sync",
            "document",
            '<wps:Output id="Result" encoding="base64"/>',
            ResponseForm(outputs=(OutputRequest(identifier=RESULT),)),
        ),
    ],
)
def test_mode_response_and_outputs_are_a_form_of_the_answer(
    mode: str, response: str, outputs: str, expected: ResponseForm
) -> None:
    body = execute(outputs=outputs, mode=mode, response=response)
    assert execution(body).response_form == expected


DATA = "<wps:Data>a</wps:Data>"
NESTED = f'<wps:Input id="{{}}"><wps:Input id="x">{DATA}</wps:Input></wps:Input>'
NO_PROCESS = (404, "NoSuchProcess", "nix")
NO_INPUT = (400, "NoSuchInput", "Bogus")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (request("Foo"), (501, "OperationNotSupported", "Foo")),
        (request("Execute").replace('service="WPS"', ""), (400, "MissingParameterValue", "service")),
        (execute().replace('"WPS"', '"WMS"'), (400, "InvalidParameterValue", "service")),
        (execute().replace("2.0.0", "1.0.0"), (400, "InvalidParameterValue", "version")),
        (execute(process=""), (400, "MissingParameterValue", "Identifier")),
        (execute(f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>"), MALFORMED),
        (execute(process=f"{IDENTIFIER}<!-- -->"), MALFORMED),
        (execute(process="nix"), (404, "NoSuchProcess", "nix")),
        # Of another process, none of our rules for inputs and outputs is said.
        (execute(process="nix", outputs='<wps:Output id="clusters"/>'), NO_PROCESS),
        (execute(data("pts", "1", 'mimeType="application/json"'), process="nix"), NO_PROCESS),
        (execute(reference("pts", ""), process="nix"), NO_PROCESS),
        (execute(NESTED.format("pts"), process="nix"), NO_PROCESS),
        (execute(process="nix", mode="later"), NO_PROCESS),
        (execute(mode="later"), (400, "NoSuchMode", "later")),
        (execute(mode=""), (400, "MissingParameterValue", "mode")),
        (execute(response=""), (400, "MissingParameterValue", "response")),
        (execute(response="page"), (400, "InvalidParameterValue", "response")),
        # inputs
        (execute(f"<wps:Input>{DATA}</wps:Input>"), (400, "MissingParameterValue", "id")),
        (execute('<wps:Input id="Image"/>'), (400, "MissingParameterValue", "Image")),
        (execute(f'<wps:Input id="Image">{DATA * 2}</wps:Input>'), (400, "TooManyInputs", "Image")),
        (execute(data("Image", "a") * 2), (400, "TooManyInputs", "Image")),
        (execute(data("FileParam", "a") + data("ItemParam", "a")), (400, "TooManyInputs", "ItemParam")),
        (execute(data("Image", "a") * 51), (400, "TooManyInputs", "Input")),
        (execute(data("Bogus", "a")), (400, "NoSuchInput", "Bogus")),
        (execute(data("image", "a")), (400, "NoSuchInput", "image")),
        (execute(data("Bogus", "a", 'mimeType="application/json"')), NO_INPUT),
        (execute(NESTED.format("Bogus")), NO_INPUT),
        (execute('<wps:Input id="Bogus"/>'), NO_INPUT),
        (execute(f'<wps:Input id="Bogus">{DATA * 2}</wps:Input>'), NO_INPUT),
        (execute(data("Bogus", "a") * 2), NO_INPUT),
        (
            execute(f'<wps:Input id="Image"><wps:Input id="x">{DATA}</wps:Input></wps:Input>'),
            (400, "WrongInputData", "Image"),
        ),
        (execute(data("Image", "")), (400, "WrongInputData", "Image")),
        (execute(data("Image", "a\nb")), (400, "WrongInputData", "Image")),
        (
            execute(data("Image", "X").replace("X", "a<wps:LiteralValue>b</wps:LiteralValue>")),
            (400, "WrongInputData", "Image"),
        ),
        (execute(data("Image", "X").replace("X", "<a>b</a>")), (400, "WrongInputData", "Image")),
        (execute(data("Image", "X").replace("X", "a<!-- -->")), (400, "WrongInputData", "Image")),
        (
            execute(
                data("Image", "X").replace(
                    "X", "<wps:LiteralValue>b<!-- --></wps:LiteralValue>"
                )
            ),
            (400, "WrongInputData", "Image"),
        ),
        (
            execute(
                data("Image", "X").replace("X", '<wps:LiteralValue uom="m">b</wps:LiteralValue>')
            ),
            (400, "WrongInputData", "Image"),
        ),
        (execute(reference("FileParam", "")), (400, "WrongInputData", "FileParam")),
        (
            execute(reference("FileParam", "http://x").replace("/></wps:Input>",
                    "><wps:Body/></wps:Reference></wps:Input>")),
            (400, "WrongInputData", "FileParam"),
        ),
        (execute(data("Image", "a", 'mimeType="image/png"')), (400, "NoSuchFormat", "Image")),
        (execute(data("FileParam", "a", 'mimeType="image/png"')), (400, "NoSuchFormat", "FileParam")),
        (execute(data("FileParam", "a", 'encoding="gzip"')), (400, "NoSuchFormat", "FileParam")),
        (execute(data("FileParam", "a", 'encoding="base64"')), (400, "WrongInputData", "FileParam")),
        (execute(data("Image", "a", 'encoding="base64"')), (400, "NoSuchFormat", "Image")),
        # outputs
        (execute(outputs="<wps:Output/>"), (400, "MissingParameterValue", "id")),
        (execute(outputs='<wps:Output id="nix"/>'), (400, "NoSuchOutput", "nix")),
        (execute(outputs=VALUE * 2), (400, "TooManyOutputs", "non_deterministic_output")),
        (execute(outputs=VALUE * 51), (400, "TooManyOutputs", "Output")),
        (execute(outputs=VALUE + ZIP.format("value"), response="raw"), (400, "TooManyOutputs", "Result")),
        (execute(outputs="", response="raw"), (400, "MissingParameterValue", "Output")),
        (
            execute(outputs='<wps:Output id="Result" mimeType="text/xml"/>'),
            (400, "NoSuchFormat", "Result"),
        ),
        (
            execute(outputs='<wps:Output id="Result" schema="http://x"/>'),
            (400, "NoSuchFormat", "Result"),
        ),
        (
            execute(outputs='<wps:Output id="non_deterministic_output" encoding="base64"/>'),
            (400, "NoSuchFormat", "non_deterministic_output"),
        ),
        (execute(outputs=ZIP.format("carrier")), (400, "InvalidParameterValue", "transmission")),
        (
            execute(outputs='<wps:Output id="Result"><wps:Output id="x"/></wps:Output>'),
            (400, "InvalidParameterValue", "Result"),
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_execute_is_named(
    body: str, expected: tuple[int, str, str | None]
) -> None:
    assert refusal(body) == expected


@pytest.mark.parametrize("version", ["", 'version=""'])
def test_a_body_that_leaves_its_version_out_is_of_its_namespaces(version: str) -> None:
    assert execution(execute().replace('version="2.0.0"', version)).identifier == IDENTIFIER
    job = request("GetStatus", "<wps:JobID>x</wps:JobID>", version)
    assert read(job) == GetStatus(job_id="x")


@pytest.mark.parametrize("more", ["", "<ows:Identifier>a</ows:Identifier>"])
def test_an_empty_name_of_a_process_is_missing(more: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(request("DescribeProcess", f"{more}<ows:Identifier/>"))
    assert (refused.value.code, refused.value.locator) == ("MissingParameterValue", "Identifier")


@pytest.mark.parametrize("operation", ["GetStatus", "GetResult", "Dismiss"])
@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "MissingParameterValue"),
        ("<wps:JobID/>", "MissingParameterValue"),
        ("<ows:JobID>x</ows:JobID>", "MissingParameterValue"),
        ("<wps:JobID>x</wps:JobID><wps:JobID>y</wps:JobID>", "NoApplicableCode"),
        ("<wps:JobID>x<!-- --></wps:JobID>", "NoApplicableCode"),
    ],
)
def test_a_job_is_named_once_and_plainly(operation: str, content: str, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(request(operation, content))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ItemNotAccessible("x", "FileParam"), "DataNotAccessible"),
        (errors.InvalidParameterValue("x", "Image"), "WrongInputData"),
        (errors.FileSizeExceeded("x", "CommandName"), "SizeExceeded"),
        (errors.MissingParameterValue("x", "Image"), "MissingParameterValue"),
        (errors.InvalidParameterValue("x", "Run-Deadline"), "InvalidParameterValue"),
        (errors.FileSizeExceeded("x"), "FileSizeExceeded"),
        (errors.ServerBusy("x"), "ServerBusy"),
    ],
)
def test_refusals_of_the_engine_get_the_codes_of_this_version(
    error: RequestError, code: str
) -> None:
    assert in_terms_of_wps2(error).code == code
    assert in_terms_of_wps2(error).text == error.text


NAMES = st.sampled_from(
    [
        *("Execute", "DescribeProcess", "GetCapabilities", "GetStatus", "Dismiss", "Foo"),
        *("Identifier", "JobID", "Input", "Output", "Data", "LiteralValue", "Reference", "Version"),
    ]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        [
            *("service", "version", "id", "mode", "response", "transmission", "mimeType"),
            *("encoding", "schema", "{http://www.w3.org/1999/xlink}href"),
        ]
    ),
    st.sampled_from(["WPS", "2.0.0", "sync", "raw", "Image", "Result", "", "é"]),
    max_size=4,
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> etree._Element:
    space = draw(st.sampled_from([WPS, OWS, "urn:x"]))
    element = etree.Element(f"{{{space}}}{draw(NAMES)}", dict(draw(ATTRIBUTES)))
    element.text = draw(st.sampled_from(["", "x", "\n", IDENTIFIER]))
    if depth:
        for child in draw(st.lists(trees(depth=depth - 1), max_size=3)):
            element.append(child)
    return element


@given(trees())
def test_any_document_is_read_or_refused(tree: etree._Element) -> None:
    with contextlib.suppress(RequestError):
        read_wps2(read_root(etree.tostring(tree)))


@pytest.mark.parametrize("aside", ["<!-- a -->", "<?a b?>"])
def test_what_stands_beside_a_literal_is_passed_over(aside: str) -> None:
    literal = "<wps:LiteralValue>alpine</wps:LiteralValue>"
    given = data("Image", "X").replace("X", f"{aside}{literal}{aside}")
    assert execution(execute(given)).texts()["Image"] == ("alpine",)
    inside = data("Image", "X").replace("X", literal.replace("pine", f"{aside}pine"))
    assert refusal(execute(inside)) == (400, "WrongInputData", "Image")


def test_only_the_blanks_of_xml_are_taken_away() -> None:
    assert execution(execute(data("Image", " \t\nalpine\n"))).texts()["Image"] == ("alpine",)
    for blank in "\u00a0\u2003\u3000\u0085":
        refused = refusal(execute(data("Image", f"alpine{blank}")))
        assert refused == (400, "WrongInputData", "Image")

from __future__ import annotations

import contextlib
import time
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.description import IDENTIFIER, RESULT, check_inputs, check_outputs
from die_algorithm.errors import RequestError
from die_algorithm.models import InputContent, OutputRequest, ResponseForm
from die_algorithm.wps2_kvp import is_wps2_query
from die_algorithm.wps_kvp import parse_kvp, parse_query, read_query
from die_algorithm.wps_operations import DescribeProcess, Execute, GetCapabilities, Operation

BASE = f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}"

ANOTHER = "service=WPS&version=1.0.0&request=Execute&Identifier=nix"


def parse(query_string: str) -> Operation:
    return parse_kvp(parse_query(query_string))


def execute(query_string: str) -> Execute:
    operation = parse(query_string)
    assert isinstance(operation, Execute)
    return operation


def inputs(data_inputs: str) -> dict[str, tuple[str, ...]]:
    return execute(f"{BASE}&DataInputs={data_inputs}").texts()


def refusal(query_string: str) -> tuple[int, str, str | None]:
    with pytest.raises(RequestError) as refused:
        parse(query_string)
    return refused.value.http_status, refused.value.code, refused.value.locator


def invalid(locator: str | None) -> tuple[int, str, str | None]:
    return 400, "InvalidParameterValue", locator


def missing(locator: str) -> tuple[int, str, str | None]:
    return 400, "MissingParameterValue", locator


MALFORMED = (400, "NoApplicableCode", None)


# -- what real clients send (reference: dataminer-wps, wire samples)


def test_the_wikis_sample_is_read() -> None:
    operation = execute(
        "request=Execute&service=WPS&Version=1.0.0&gcube-token=a-b&lang=en-US"
        f"&Identifier={IDENTIFIER}&DataInputs=Image=OccClustersTest;"
        "FileParam=http://goo.gl/VDzpch;CommandName=depthmean|sstmnmax;"
    )
    assert operation.identifier == IDENTIFIER
    assert operation.response_form == ResponseForm()
    assert operation.texts() == {
        "Image": ("OccClustersTest",),
        "FileParam": ("http://goo.gl/VDzpch",),
        "CommandName": ("depthmean|sstmnmax",),
    }


def test_what_the_portal_shows_as_its_request_is_read() -> None:
    found = inputs(
        "Image=d4science%2Fsortapp;CommandName=sortapp;"
        "FileParam=https%3A%2F%2Fdata.d4science.org%2Fshub%2FE_abc%3D%3D;"
    )
    assert found == {
        "Image": ("d4science/sortapp",),
        "CommandName": ("sortapp",),
        "FileParam": ("https://data.d4science.org/shub/E_abc==",),
    }


def test_names_of_parameters_are_read_in_any_case() -> None:
    operation = execute(
        f"SERVICE=wps&Version=1.0.0&ReQuEsT=execute&IDENTIFIER={IDENTIFIER}&datainputs=Image=a"
        "&StoreExecuteResponse=TRUE&STATUS=1"
    )
    assert operation.response_form == ResponseForm(store=True, status=True)


@pytest.mark.parametrize("noise", ["foo=bar", "lang=en-US", "gcube-token=x", "&&&", "=", "x"])
def test_what_the_standard_does_not_know_is_ignored(noise: str) -> None:
    assert parse(f"service=WPS&request=GetCapabilities&{noise}&") == GetCapabilities()


def test_describe_process_takes_several_identifiers() -> None:
    operation = parse("service=WPS&version=1.0.0&request=DescribeProcess&identifier=a,%20b,")
    assert operation == DescribeProcess(identifiers=("a", "b"))


@pytest.mark.parametrize("version", ["", "&version=", "&version=1.0.0"])
def test_a_request_that_leaves_its_version_out_is_of_1_0_0(version: str) -> None:
    described = parse(f"service=WPS{version}&request=DescribeProcess&identifier=a")
    assert described == DescribeProcess(identifiers=("a",))
    operation = execute(f"service=WPS{version}&request=Execute&Identifier={IDENTIFIER}")
    assert operation.identifier == IDENTIFIER
    assert not is_wps2_query(parse_query(f"service=WPS{version}&request=GetStatus&JobID=x"))


def test_capabilities_are_negotiated() -> None:
    query = "service=WPS&request=GetCapabilities&AcceptVersions="
    assert parse(query + "1.0.0,2.0.0") == GetCapabilities()
    assert parse(query + "3.0.0,1.0.0") == GetCapabilities()
    assert parse(query + "2.0.0,1.0.0") == GetCapabilities(version="2.0.0")
    assert refusal(query + "3.0.0,0.4.0") == (400, "VersionNegotiationFailed", None)


def test_capabilities_of_a_version_that_is_not_spoken_are_refused() -> None:
    query = "service=WPS&request=GetCapabilities&version="
    assert parse(query + "1.0.0") == GetCapabilities()
    assert refusal(query + "3.0.0") == (400, "InvalidParameterValue", "version")


# -- values (reference: safety 4.2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a==", "a=="),
        ("a%3D%3D", "a=="),
        ("a%253D%253D", "a=="),
        ("alpine@sha256:abc", "alpine@sha256:abc"),
        ("alpine%40sha256:abc", "alpine@sha256:abc"),
        ("alpine@foo=bar", "alpine@foo=bar"),
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("a%253Bb", "a;b"),
        ("a%2541", "aA"),
        ("a%2B%2541", "a+A"),
        ("100%25", "100%"),
        ("%C3%A9", "é"),
        ("x@dataType=string", "x"),
        ("x@datatype=xs:string@uom=", "x"),
        ("abc%2540schema=2.txt", "abc@schema=2.txt"),
        ("@xlink:href=http%3A%2F%2Fhub%2Fitems%2Fx%3Fa%3Db", "http://hub/items/x?a=b"),
        ("@href=http://hub/x@method=GET", "http://hub/x"),
        ("@xlink:href=", ""),
        ("", ""),
    ],
)
def test_a_value_arrives_as_it_was_meant(text: str, value: str) -> None:
    assert inputs(f"FileParam={text}") == {"FileParam": (value,)}


PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "))


@given(PRINTABLE)
def test_any_printable_text_survives_the_double_encoding_of_the_standard(text: str) -> None:
    twice = quote(quote(text, safe=""), safe="")
    assert inputs(f"FileParam={twice}") == {"FileParam": (text,)}


def test_a_name_may_be_encoded_twice_too() -> None:
    assert inputs("Im%2561ge=a") == {"Image": ("a",)}


@given(
    st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters=";%@") | st.just(" "),
        min_size=1,
    )
)
def test_text_without_semicolon_percent_and_at_survives_single_encoding(text: str) -> None:
    assert inputs(f"FileParam={quote(text)}") == {"FileParam": (text,)}


def test_several_values_of_a_name_are_all_kept() -> None:
    assert inputs("Image=a;CommandName=c;Image=b") == {"Image": ("a", "b"), "CommandName": ("c",)}


def test_empty_parts_are_ignored() -> None:
    assert inputs(";;Image=a;;;%20;") == {"Image": ("a",)}


def test_blanks_around_a_name_do_not_count_and_those_of_a_value_do() -> None:
    assert inputs("%20Image%20=%20a") == {"Image": (" a",)}


def test_only_a_reference_makes_a_value_a_file() -> None:
    operation = execute(f"{BASE}&DataInputs=Image=@xlink:href=alpine;FileParam=x")
    assert operation.inputs["Image"][0].is_file
    assert not operation.inputs["FileParam"][0].is_file
    with pytest.raises(RequestError) as refused:
        check_inputs(operation.inputs)
    assert refused.value.locator == "Image"


def content(data_inputs: str) -> InputContent | None:
    operation = execute(f"{BASE}&DataInputs={data_inputs}")
    assert operation.texts() == {"FileParam": ()}
    assert operation.inputs["FileParam"][0].is_file
    return operation.inputs["FileParam"][0].content


@pytest.mark.parametrize(
    ("text", "data", "media_type"),
    [
        ("x@mimeType=text%2Fplain", b"x", "text/plain"),
        ("a,b%250A1,2%250A@mimeType=Text/CSV; charset=utf-8", b"a,b\n1,2\n", "text/csv"),
        ("eA==@encoding=base64", b"x", "application/octet-stream"),
        ("eA%3D%3D@mimeType=image/png@encoding=Base64", b"x", "image/png"),
        ("a/b.txt@mimeType=text/plain", b"a/b.txt", "text/plain"),
        ("%C3%BC@mimeType=;nonsense", "ü".encode(), "text/plain"),
        ("x@encoding=UTF-8", b"x", "text/plain"),
        ("x@mimeType=text/xml@schema=http://h/x.xsd", b"x", "text/xml"),
    ],
)
def test_a_value_with_a_format_is_a_files_content(text: str, data: bytes, media_type: str) -> None:
    text = text.replace("; ", "%253B ").replace("=;", "=%253B")
    assert content(f"FileParam={text}") == InputContent(data=data, media_type=media_type)


@pytest.mark.parametrize(
    "reference",
    ["2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11", "https://h/shub/E_a==", "/Home/ada/Workspace/a b"],
)
def test_a_reference_with_a_format_is_a_reference(reference: str) -> None:
    assert inputs(f"FileParam={quote(reference)}@mimeType=text/xml") == {"FileParam": (reference,)}


# -- what is refused


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", missing("service")),
        ("service=", missing("service")),
        ("service=WMS", invalid("service")),
        ("service=WPS", missing("request")),
        ("service=WPS&request=Foo", (501, "OperationNotSupported", "Foo")),
        ("service=WPS&request=GetStatus", (501, "OperationNotSupported", "GetStatus")),
        ("service=WPS&request=Dismiss", (501, "OperationNotSupported", "Dismiss")),
        ("service=WPS&request=GetCapabilities&language=xx", invalid("language")),
        ("service=WPS&service=WMS&request=GetCapabilities", invalid("service")),
        ("service=WPS&request=Execute&Request=GetCapabilities", invalid("request")),
        ("service=WPS&request=DescribeProcess", missing("Identifier")),
        ("service=WPS&request=DescribeProcess&Identifier=,", missing("Identifier")),
        ("service=WPS&request=DescribeProcess&version=3&identifier=x", invalid("version")),
        ("service=WPS&request=Execute&version=1.0&identifier=x", invalid("version")),
        ("service=WPS&request=Execute&version=1.0.0", missing("Identifier")),
        (f"{BASE}&language=de", invalid("language")),
        (f"{BASE}&DataInputs=Image=a&DataInputs=Image=b", invalid("DataInputs")),
        (f"{BASE}&DataInputs=Image=a&datainputs=Image=a", invalid("DataInputs")),
        (f"{BASE}&DataInputs=Image", invalid("DataInputs")),
        (f"{BASE}&DataInputs=Image=a;x", invalid("DataInputs")),
        (f"{BASE}&DataInputs={'Image=1;' * 51}", invalid("DataInputs")),
        (ANOTHER, invalid("Identifier")),
        (f"{ANOTHER}&DataInputs=eps=1@datatype=integer", invalid("Identifier")),
        (f"{ANOTHER}&DataInputs=eps=1@uom=m", invalid("Identifier")),
        (f"{ANOTHER}&RawDataOutput=a;b", invalid("Identifier")),
        (f"{BASE}&DataInputs=Bogus=a@datatype=integer", invalid("Bogus")),
        (f"{BASE}&DataInputs=Image=a@datatype=integer", invalid("Image")),
        (f"{BASE}&DataInputs=Image=a@uom=m", invalid("Image")),
        (f"{BASE}&DataInputs=FileParam=abc@xlink:href=http://x", invalid("FileParam")),
        (f"{BASE}&DataInputs=FileParam=x@encoding=rot13", invalid("FileParam")),
        (f"{BASE}&DataInputs=FileParam=x@encoding=base64", invalid("FileParam")),
        (f"{BASE}&DataInputs=FileParam=@mimeType=text/csv", invalid("FileParam")),
        (f"{BASE}&DataInputs=FileParam=@href=http://h/x@method=POST", invalid("FileParam")),
        *(
            (f"{BASE}&DataInputs=FileParam={text}", invalid("FileParam"))
            for text in (
                "@href=http://a/1@href=http://b/2",
                "@xlink:href=http://a/1@href=http://b/2",
                "@href=http://a/1@HREF=http://a/1",
                "abc@mimeType=text/csv@format=text/plain",
                "abc@schema=2.txt",
                "abc@schema=x@asReference=true",
                "abc@method=POST",
                "abc@mimeType=text/csv@method=POST",
                "abc@mimeType=text/csv@asReference=true",
            )
        ),
        (f"{BASE}&DataInputs=Image=a@datatype=string@dataType=string", invalid("Image")),
        (
            f"{BASE}&ResponseDocument=Result@asReference=true@asReference=false",
            invalid("Result"),
        ),
        (f"{BASE}&RawDataOutput=Result@encoding=hex", invalid("Result")),
        (f"{BASE}&RawDataOutput=Result@encoding=base64", invalid("Result")),
        (f"{BASE}&ResponseDocument=Result@encoding=base64@asReference=true", invalid("Result")),
        (f"{BASE}&ResponseDocument=Result@encoding=base64@mimeType=text/xml", invalid("Result")),
        (
            f"{BASE}&ResponseDocument=non_deterministic_output@encoding=base64",
            invalid("non_deterministic_output"),
        ),
        (f"{BASE}&ResponseDocument=Result@schema=x@uom=m", invalid("Result")),
        (f"{BASE}&ResponseDocument=Result@uom=m", invalid("Result")),
        (f"{BASE}&ResponseDocument=Result@href=http://x", invalid("Result")),
        (f"{BASE}&RawDataOutput==", missing("RawDataOutput")),
        (f"{BASE}&RawDataOutput=@mimeType=application/zip", missing("RawDataOutput")),
        (f"{BASE}&ResponseDocument=Result;=", missing("ResponseDocument")),
        *(
            (f"{BASE}&RawDataOutput={nothing}{form}", invalid("RawDataOutput"))
            for nothing in (";", "[]", "%20", "[;]")
            for form in ("", "&ResponseDocument=Result")
        ),
        (f"{BASE}&status=true", invalid("status")),
        (f"{BASE}&status=true&storeExecuteResponse=false", invalid("status")),
        (f"{BASE}&storeExecuteResponse=maybe", invalid("storeExecuteResponse")),
        (f"{BASE}&lineage=2", invalid("lineage")),
        (f"{BASE}&lineage=true&Lineage=false", invalid("lineage")),
        (f"{BASE}&ResponseDocument=Result@asReference=perhaps", invalid("asReference")),
        (f"{BASE}&RawDataOutput=a;b", invalid("RawDataOutput")),
        (f"{BASE}&RawDataOutput=a&ResponseDocument=b", invalid("RawDataOutput")),
        (
            f"{BASE}&RawDataOutput=Result&storeExecuteResponse=true&status=true",
            invalid("RawDataOutput"),
        ),
        (f"{BASE}&RawDataOutput=Result&storeExecuteResponse=true", invalid("RawDataOutput")),
        (f"{BASE}&DataInputs=Image=%zz", MALFORMED),
        (f"{BASE}&DataInputs=Image=%", MALFORMED),
        (f"{BASE}&DataInputs=Image=%f", MALFORMED),
        (f"{BASE}&DataInputs=Image=%FF%FE", MALFORMED),
        (f"{BASE}&DataInputs=Image=%25FF", MALFORMED),
        (f"{BASE}&%zz=1", MALFORMED),
        ("&".join(f"p{number}=" for number in range(201)), MALFORMED),
    ],
)
def test_a_wrong_request_is_refused_where_it_is_wrong(
    query: str, expected: tuple[int, str, str | None]
) -> None:
    assert refusal(query) == expected


@pytest.mark.parametrize("name", ["Image", "CommandName", "FileParam"])
@pytest.mark.parametrize(
    "text",
    ["%00", "a%0d%0ab", "%1b[2J", "a%250Ab", "%E2%80%AE", "%C2%A0", "%E2%80%8B", "%ED%9F%BF"],
)
def test_characters_that_nobody_sees_are_refused(name: str, text: str) -> None:
    assert refusal(f"{BASE}&DataInputs={name}={text}") == invalid(name)


def test_an_unknown_operations_name_is_repeated_in_part_only() -> None:
    status, code, locator = refusal(f"service=WPS&request={'x' * 5000}")
    assert (status, code, locator) == (501, "OperationNotSupported", "x" * 80)


@pytest.mark.parametrize(
    "query", ["&".join(["a=b"] * 100_000), f"{BASE}&DataInputs={';' * 1_000_000}", "%" * 1_000_000]
)
def test_a_flood_is_answered_in_less_than_a_second(query: str) -> None:
    started = time.process_time()
    with contextlib.suppress(RequestError):
        parse(query)
    assert time.process_time() - started < 1


# -- response forms


def test_outputs_are_asked_for_in_every_form() -> None:
    query = f"{BASE}&storeExecuteResponse=true&lineage=true&ResponseDocument="
    form = execute(
        f"{query}non_deterministic_output@asReference=true;Result@mimeType=application/zip"
    )
    assert form.response_form == ResponseForm(
        outputs=(
            OutputRequest(identifier="non_deterministic_output", as_reference=True),
            OutputRequest(identifier="Result", mime_type="application/zip"),
        ),
        store=True,
        lineage=True,
    )
    # As an input that has attributes alone would be written.
    assert execute(f"{query}Result=@asReference=true").response_form.outputs == (
        OutputRequest(identifier="Result", as_reference=True),
    )
    raw = execute(f"{BASE}&RawDataOutput=Result@mimeType=application%2Fzip").response_form.raw
    assert raw == OutputRequest(identifier="Result", mime_type="application/zip")


@pytest.mark.parametrize(
    ("form", "locator"),
    [
        ("RawDataOutput=Bogus", "Bogus"),
        ("ResponseDocument=Bogus", "Bogus"),
        ("ResponseDocument=Result;Bogus", "Bogus"),
        ("ResponseDocument=result", "result"),
        ("ResponseDocument=Result@mimeType=image/png", "Result"),
        ("ResponseDocument=Result;Result@asReference=true", "Result"),
        (
            "RawDataOutput=non_deterministic_output@mimeType=application/zip",
            "non_deterministic_output",
        ),
        ("RawDataOutput=Result@mimeType=text/xml", "Result"),
    ],
)
def test_outputs_that_the_process_does_not_give_are_refused(form: str, locator: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_outputs(execute(f"{BASE}&{form}").response_form)
    assert (refused.value.code, refused.value.locator) == ("InvalidParameterValue", locator)


# -- anything

FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *("service=WPS", "&", "request=Execute", "request=DescribeProcess", "version=1.0.0"),
            *(
                "&DataInputs=",
                "Image",
                "=",
                ";",
                "@",
                "@xlink:href=",
                "@mimeType=",
                "%",
                "%3D",
                "%ff",
            ),
            *(
                "&ResponseDocument=",
                "&RawDataOutput=",
                "&status=true",
                "&storeExecuteResponse=true",
            ),
            *("&Identifier=x", ",", "+", " ", "\0", "é", "\ud800", "%00"),
        ]
    )
).map("".join)


@given(st.one_of(FRAGMENTS, FRAGMENTS.map(lambda rest: f"{BASE}&{rest}"), st.text()))
def test_any_query_is_read_or_refused(query: str) -> None:
    with contextlib.suppress(RequestError):
        operation = parse(query)
        assert isinstance(operation, GetCapabilities | DescribeProcess | Execute)


@given(st.binary())
def test_any_bytes_in_a_query_are_read_or_refused(query: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse(query.decode("latin-1"))


@pytest.mark.parametrize(
    "address",
    ["https://h/a%23b.csv", "https://h/x?sig=ab%2Bcd%2Fe%3D&c=A%2FB", "https://h/a%3Fb", "https://h/E_a%2Fb=="],
)  # fmt: skip
def test_an_address_keeps_its_own_escapes_however_often_it_is_encoded(address: str) -> None:
    """The portal's own link encodes once (W2), the standard asks for twice; both mean the address."""
    for encoded in (quote(address, safe=""), quote(quote(address, safe=""), safe="")):
        assert inputs(f"FileParam={encoded}") == {"FileParam": (address,)}
        assert inputs(f"FileParam=@xlink:href={encoded}") == {"FileParam": (address,)}


def test_a_format_may_be_called_as_in_the_standards_examples() -> None:
    """05-007r7, 10.2.2.1: ``@Format=text/xml@Encoding=utf-8``."""
    operation = execute(f"{BASE}&DataInputs=FileParam=a,b@Format=text/csv@Encoding=utf-8")
    (value,) = operation.inputs["FileParam"]
    assert value.content == InputContent(data=b"a,b", media_type="text/csv")
    form = execute(f"{BASE}&ResponseDocument=Result@Format=application/zip").response_form
    assert form.outputs == (OutputRequest(identifier=RESULT, mime_type="application/zip"),)


def test_what_is_no_file_has_no_format() -> None:
    assert inputs("Image=alpine@mimeType=text/plain") == {"Image": ("alpine",)}


def test_lists_may_stand_in_brackets_as_in_old_examples() -> None:
    operation = execute(f"{BASE}&DataInputs=[Image=alpine;CommandName=x]&RawDataOutput=[Result]")
    assert operation.texts() == {"Image": ("alpine",), "CommandName": ("x",)}
    assert operation.response_form.raw == OutputRequest(identifier=RESULT)


def test_a_form_whose_fields_are_empty_asks_for_nothing() -> None:
    operation = execute(f"{BASE}&RawDataOutput=&ResponseDocument=Result&status=")
    assert operation.response_form == ResponseForm(outputs=(OutputRequest(identifier=RESULT),))


@pytest.mark.parametrize("attributes", ["@encoding=base64", "@encoding=UTF-8@schema=@uom="])
def test_an_output_may_be_asked_for_as_it_is(attributes: str) -> None:
    form = execute(f"{BASE}&ResponseDocument=Result{attributes}").response_form
    assert form.outputs == (OutputRequest(identifier=RESULT),)


def test_a_query_that_was_not_escaped_is_read_as_utf_8() -> None:
    assert read_query("a=données".encode()) == {"a": ("données",)}
    with pytest.raises(RequestError, match="not UTF-8"):
        read_query(b"a=\xff")


@pytest.mark.parametrize(
    "text",
    [
        "run%20x@encoding=utf8%20--important",
        "sort%20--key=a@format=csv",
        "run@schema=x",
        "run@method=fast",
        "run@asReference=true",
    ],
)
def test_no_part_of_a_command_is_taken_for_an_attribute(text: str) -> None:
    query = f"{BASE}&DataInputs=Image=x;FileParam=y;CommandName="
    assert refusal(query + text) == invalid("CommandName")
    whole = execute(query + text.replace("@", "%2540")).texts()["CommandName"]
    assert whole == (text.replace("%20", " "),)


@pytest.mark.parametrize("blank", ["%C2%A0", "%E3%80%80", "%E2%80%A8", "%C2%85"])
def test_only_the_blanks_of_xml_are_taken_away(blank: str) -> None:
    name = f"Image{unquote(blank)}"
    assert refusal(f"{BASE}&DataInputs=Image{blank}=x") == invalid(name)
    assert refusal(f"{BASE}&status=true{blank}")[2] == "status"

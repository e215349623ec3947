from __future__ import annotations

import contextlib
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from die_algorithm.description import IDENTIFIER, check_inputs
from die_algorithm.errors import RequestError
from die_algorithm.models import InputContent, OutputRequest, ResponseForm
from die_algorithm.wps_operations import DescribeProcess, Execute, GetCapabilities
from die_algorithm.wps_xml import parse_xml
from die_algorithm.xml_reader import _attributes, read_root

WPS = "http://www.opengis.net/wps/1.0.0"
NAMESPACES = (
    f'xmlns:wps="{WPS}" xmlns:ows="http://www.opengis.net/ows/1.1" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"'
)
ITEM = "2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11"

MALFORMED = (400, "NoApplicableCode", None)


def literal(name: str, value: str, attributes: str = "") -> str:
    return (
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier><wps:Data>"
        f"<wps:LiteralData {attributes}>{value}</wps:LiteralData></wps:Data></wps:Input>"
    )


def given_as(name: str, value: str) -> str:
    return f"<wps:Input><ows:Identifier>{name}</ows:Identifier>{value}</wps:Input>"


def body(
    inputs: str = "",
    form: str = "",
    *,
    attributes: str = 'service="WPS" version="1.0.0"',
    identifier: str = f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>",
    prolog: str = "",
) -> bytes:
    return (
        f"{prolog}<wps:Execute {attributes} {NAMESPACES}>{identifier}"
        f"<wps:DataInputs>{inputs}</wps:DataInputs>{form}</wps:Execute>"
    ).encode()


def execute(document: bytes) -> Execute:
    operation = parse_xml(document)
    assert isinstance(operation, Execute)
    return operation


def refusal(document: bytes) -> tuple[int, str, str | None]:
    with pytest.raises(RequestError) as refused:
        parse_xml(document)
    return refused.value.http_status, refused.value.code, refused.value.locator


def invalid(locator: str | None) -> tuple[int, str, str | None]:
    return 400, "InvalidParameterValue", locator


def missing(locator: str) -> tuple[int, str, str | None]:
    return 400, "MissingParameterValue", locator


# -- what real clients send (reference: dataminer-wps, W3 and 2.3)

JAVA_CLIENT = f"""<?xml version="1.0" encoding="UTF-8"?>
<Execute xmlns="http://www.opengis.net/wps/1.0.0" xmlns:ns="http://www.opengis.net/ows/1.1"
    xmlns:xlin="http://www.w3.org/1999/xlink" service="WPS" version="1.0.0">
  <ns:Identifier>{IDENTIFIER}</ns:Identifier>
  <DataInputs>
    <Input><ns:Identifier>FileParam</ns:Identifier>
      <Data><ComplexData mimeType="application/d4science">
        text
      </ComplexData></Data></Input>
    <Input><ns:Identifier>CommandName</ns:Identifier>
      <Data><LiteralData dataType="xs:string">en-US</LiteralData></Data></Input>
    <Input><ns:Identifier>ItemParam</ns:Identifier>
      <Reference mimeType="text/xml" xlin:href="https://data.d4science.org/shub/E_x=="/></Input>
  </DataInputs>
  <ResponseForm>
    <ResponseDocument storeExecuteResponse="true" lineage="true" status="true">
      <Output mimeType="text/xml"><ows:Identifier xmlns:ows="http://www.opengis.net/ows/1.1">
        non_deterministic_output </ows:Identifier></Output>
    </ResponseDocument>
  </ResponseForm>
</Execute>
"""


def test_the_java_clients_request_is_read() -> None:
    operation = execute(JAVA_CLIENT.encode())
    assert operation.identifier == IDENTIFIER
    assert operation.texts() == {
        "FileParam": (),
        "CommandName": ("en-US",),
        "ItemParam": ("https://data.d4science.org/shub/E_x==",),
    }
    (audio,) = operation.inputs["FileParam"]
    assert audio.content is not None
    assert (audio.content.data.strip(), audio.content.media_type) == (
        b"text",
        "application/d4science",
    )
    assert operation.response_form == ResponseForm(
        outputs=(OutputRequest(identifier="non_deterministic_output", mime_type="text/xml"),),
        store=True,
        status=True,
        lineage=True,
    )


@pytest.mark.parametrize(
    "data_type",
    [
        "http://www.w3.org/TR/xmlschema-2/#string",
        "https://www.w3.org/TR/xmlschema-2/#string",
        "http://www.w3.org/2001/XMLSchema#string",
        "urn:ogc:def:dataType:OGC:1.1:string",
        "xs:string",
        "xsd:string",
        "string",
        "",
    ],
)
def test_a_client_may_repeat_that_a_literal_is_a_string(data_type: str) -> None:
    operation = execute(body(literal("Image", "alpine", f'dataType="{data_type}" uom=""')))
    assert operation.texts() == {"Image": ("alpine",)}


@pytest.mark.parametrize("before", ["\ufeff", '<?xml version="1.0"?>', "<!-- hello -->", "\n  "])
def test_what_may_stand_before_the_root_may_stand_there(before: str) -> None:
    assert execute(body(prolog=before)).identifier == IDENTIFIER


def test_a_stylesheet_instruction_is_ignored() -> None:
    assert execute(body(prolog='<?xml-stylesheet href="http://evil/x.xsl"?>')).inputs == {}


@pytest.mark.parametrize("version", ["", 'version=""'])
def test_a_body_that_leaves_its_version_out_is_of_its_namespaces(version: str) -> None:
    assert execute(body(attributes=f'service="WPS" {version}')).identifier == IDENTIFIER
    one = "<ows:Identifier>a</ows:Identifier>"
    described = (
        f'<wps:DescribeProcess service="WPS" {version} {NAMESPACES}>{one}</wps:DescribeProcess>'
    )
    assert parse_xml(described.encode()) == DescribeProcess(identifiers=("a",))


def test_prefixes_are_the_clients_choice() -> None:
    document = body(literal("Image", "alpine"))
    swapped = document.replace(b"wps:", b"a:").replace(b"xmlns:wps", b"xmlns:a")
    assert execute(swapped).texts() == {"Image": ("alpine",)}


def test_values_are_kept_exactly() -> None:
    value = " a  b\N{SNAKE}é&amp;&lt;&#62;&quot; "
    assert execute(body(literal("Image", value))).texts() == {"Image": (' a  b🐍é&<>" ',)}
    assert execute(body(literal("Image", "<![CDATA[a<b>]]>"))).texts() == {"Image": ("a<b>",)}


def test_complex_data_may_be_indented() -> None:
    data = f"<wps:Data><wps:ComplexData>\n\t{ITEM}\n</wps:ComplexData></wps:Data>"
    operation = execute(body(given_as("FileParam", data)))
    assert operation.texts() == {"FileParam": (ITEM,)}
    assert operation.inputs["FileParam"][0].is_file


@pytest.mark.parametrize(
    "attributes", ['xsi:type="x"', 'xml:base="http://evil/"', 'xlink:href="http://evil/"']
)
def test_other_attributes_of_a_literal_are_ignored(attributes: str) -> None:
    document = body(literal("Image", "alpine", attributes)).replace(
        b"<wps:Execute", b'<wps:Execute xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    )
    assert execute(document).texts() == {"Image": ("alpine",)}


def test_the_other_operations_are_read() -> None:
    capabilities = f'<wps:GetCapabilities service="WPS" {NAMESPACES}/>'
    assert parse_xml(capabilities.encode()) == GetCapabilities()
    versions = "<wps:AcceptVersions><ows:Version>{}</ows:Version></wps:AcceptVersions>"
    document = f'<wps:GetCapabilities service="WPS" {NAMESPACES}>{versions}</wps:GetCapabilities>'
    assert parse_xml(document.format("1.0.0").encode()) == GetCapabilities()
    assert parse_xml(document.format("2.0.0").encode()) == GetCapabilities(version="2.0.0")
    assert refusal(document.format("3.0.0").encode()) == (400, "VersionNegotiationFailed", None)
    describe = (
        f'<wps:DescribeProcess service="WPS" version="1.0.0" language="en-US" {NAMESPACES}>'
        "<ows:Identifier>a</ows:Identifier><ows:Identifier> b </ows:Identifier>"
        "</wps:DescribeProcess>"
    )
    assert parse_xml(describe.encode()) == DescribeProcess(identifiers=("a", "b"))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", ResponseForm()),
        ("<wps:ResponseForm><wps:ResponseDocument/></wps:ResponseForm>", ResponseForm()),
        (
            "<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse='1'>"
            "<wps:Output asReference='true'><ows:Identifier>Result</ows:Identifier></wps:Output>"
            "</wps:ResponseDocument></wps:ResponseForm>",
            ResponseForm(
                outputs=(OutputRequest(identifier="Result", as_reference=True),), store=True
            ),
        ),
        (
            "<wps:ResponseForm><wps:RawDataOutput mimeType='application/zip'>"
            "<ows:Identifier>Result</ows:Identifier></wps:RawDataOutput></wps:ResponseForm>",
            ResponseForm(raw=OutputRequest(identifier="Result", mime_type="application/zip")),
        ),
    ],
)
def test_the_form_of_the_answer_is_read(form: str, expected: ResponseForm) -> None:
    assert execute(body(form=form)).response_form == expected


def content(data: str, attributes: str = "") -> InputContent | None:
    complex_data = f"<wps:Data><wps:ComplexData {attributes}>{data}</wps:ComplexData></wps:Data>"
    return execute(body(given_as("FileParam", complex_data))).inputs["FileParam"][0].content


@pytest.mark.parametrize(
    ("data", "attributes", "expected", "media_type"),
    [
        ("a;b\n1;2\n", 'mimeType="text/csv"', b"a;b\n1;2\n", "text/csv"),
        (" é&lt;", "", " é<".encode(), "text/plain"),
        ("<![CDATA[<a>&amp;]]>", 'mimeType="text/html"', b"<a>&amp;", "text/html"),
        ("AP//\n  AA==", 'encoding="base64"', b"\0\xff\xff\0", "application/octet-stream"),
        ("UEs=", 'encoding="BASE64" mimeType="application/zip"', b"PK", "application/zip"),
        (ITEM[:-1], "", ITEM[:-1].encode(), "text/plain"),
        ("a/b.txt", "", b"a/b.txt", "text/plain"),
        ("\u202e\t", "", "\u202e\t".encode(), "text/plain"),
    ],
)
def test_complex_data_is_a_files_content(
    data: str, attributes: str, expected: bytes, media_type: str
) -> None:
    assert content(data, attributes) == InputContent(data=expected, media_type=media_type)


def test_embedded_elements_are_a_document_with_the_namespaces_in_force() -> None:
    found = content('\n <g:a xmlns:g="urn:g" t="ows:x">1<b/>é</g:a> \n')
    assert found is not None
    assert found.media_type == "text/xml"
    root = etree.fromstring(found.data)
    assert (root.tag, root.text, root[0].tail) == ("{urn:g}a", "1", "é")
    assert root.nsmap["ows"] == "http://www.opengis.net/ows/1.1"
    mixed = content("1 &lt; 2 <b>3</b> 4", 'mimeType="text/html"')
    assert mixed is not None
    assert re.sub(rb" xmlns:\w+=\"[^\"]*\"", b"", mixed.data) == b"1 &lt; 2 <b>3</b> 4"


@pytest.mark.parametrize(
    "reference", [ITEM, "https://data.d4science.org/shub/E_a==", "/Home/ada/Workspace/a b.txt"]
)
def test_a_reference_in_complex_data_is_a_reference(reference: str) -> None:
    data = f"<wps:Data><wps:ComplexData mimeType='text/xml'>\n {reference}\n</wps:ComplexData></wps:Data>"
    assert execute(body(given_as("FileParam", data))).texts() == {"FileParam": (reference,)}


# -- what is refused (reference: safety 4.1)

REFERENCE = '<wps:Reference xlink:href="x"/>'
DATA = "<wps:Data><wps:LiteralData>a</wps:LiteralData></wps:Data>"


def complex_data(data: str, attributes: str = "") -> bytes:
    element = f"<wps:Data><wps:ComplexData {attributes}>{data}</wps:ComplexData></wps:Data>"
    return body(given_as("FileParam", element))


def raw(attributes: str) -> bytes:
    name = "<ows:Identifier>Result</ows:Identifier>"
    return form(f"<wps:RawDataOutput {attributes}>{name}</wps:RawDataOutput>")


def output(attributes: str) -> bytes:
    name = "<ows:Identifier>Result</ows:Identifier>"
    document = f"<wps:Output {attributes}>{name}</wps:Output>"
    return form(f"<wps:ResponseDocument>{document}</wps:ResponseDocument>")


def describe(identifiers: str) -> bytes:
    return f'<wps:DescribeProcess service="WPS" {NAMESPACES}>{identifiers}</wps:DescribeProcess>'.encode()


@pytest.mark.parametrize("attributes", ['encoding="base64"', 'encoding="UTF-8" schema="" uom=""'])
def test_an_output_may_be_asked_for_as_it_is(attributes: str) -> None:
    outputs = execute(output(attributes)).response_form.outputs
    assert outputs == (OutputRequest(identifier="Result"),)


def another(inputs: str = "", form: str = "") -> bytes:
    return body(inputs, form, identifier="<ows:Identifier>nix</ows:Identifier>")


def form(content: str) -> bytes:
    return body(form=f"<wps:ResponseForm>{content}</wps:ResponseForm>")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", MALFORMED),
        (b" \n", MALFORMED),
        (b"\xef\xbb\xbf", MALFORMED),
        (b"hello", MALFORMED),
        (b"{}", MALFORMED),
        (body()[:-3], MALFORMED),
        (body() + b"x", MALFORMED),
        (body() + body(), MALFORMED),
        (b"<a/>", MALFORMED),
        (b'<Execute service="WPS"/>', MALFORMED),
        (b'<x:Execute xmlns:x="http://www.opengis.net/wps" service="WPS"/>', MALFORMED),
        (f'<wps:Foo service="WPS" {NAMESPACES}/>'.encode(), (501, "OperationNotSupported", "Foo")),
        (f"<wps:Foo {NAMESPACES}/>".encode(), (501, "OperationNotSupported", "Foo")),
        (
            b'<w:Execute xmlns:w="http://www.opengis.net/wps/2.0" service="WPS" version="2.0.0"/>',
            invalid("version"),
        ),
        (body(attributes='service="WPS" version="0.4.0"'), invalid("version")),
        (body(attributes='service="WMS" version="1.0.0"'), invalid("service")),
        (body(attributes='version="1.0.0"'), missing("service")),
        (body(attributes='service="WPS" version="1.0.0" language="xx"'), invalid("language")),
        (body(identifier=""), missing("Identifier")),
        (body(identifier="<ows:Identifier/>"), missing("Identifier")),
        (body(identifier="<wps:Identifier>x</wps:Identifier>"), missing("Identifier")),
        (body(identifier="<ows:Identifier>a</ows:Identifier>" * 2), MALFORMED),
        (body(identifier="<ows:Identifier>a<!-- --></ows:Identifier>"), MALFORMED),
        (body(f"<wps:Input>{DATA}</wps:Input>"), missing("Identifier")),
        (
            body(f"<wps:Input>{'<ows:Identifier>a</ows:Identifier>' * 2}{DATA}</wps:Input>"),
            MALFORMED,
        ),
        (body(given_as("Image", "")), missing("Image")),
        (body(given_as("Image", "<wps:Data/>")), missing("Image")),
        (body(given_as("Image", "<ows:Data/>")), missing("Image")),
        (body(literal("Image", "")), invalid("Image")),
        (body(literal("Image", "a<b>c</b>d")), invalid("Image")),
        (body(literal("Image", "a<!-- c -->d")), invalid("Image")),
        (body(literal("Image", "a<?c d?>e")), invalid("Image")),
        (
            body(
                literal("Image", '<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/x"/>')
            ),
            invalid("Image"),
        ),
        (body(literal("Image", "a", 'dataType="xs:integer"')), invalid("Image")),
        (body(literal("Image", "a", 'uom="m"')), invalid("Image")),
        (body(given_as("Image", "<wps:Data><wps:BoundingBoxData/></wps:Data>")), invalid("Image")),
        (body(given_as("Image", DATA * 2)), MALFORMED),
        (body(given_as("Image", f'{DATA}<wps:Reference xlink:href="x"/>')), MALFORMED),
        (body(given_as("Image", f"{DATA}<wps:Data/>")), MALFORMED),
        (body(given_as("FileParam", f"<wps:Data>item-A</wps:Data>{REFERENCE}")), MALFORMED),
        (body(given_as("FileParam", f"<wps:Data/>{REFERENCE}")), MALFORMED),
        (body(given_as("FileParam", REFERENCE * 2)), MALFORMED),
        (body(given_as("FileParam", "<wps:Reference/>")), invalid("FileParam")),
        (body(given_as("FileParam", '<wps:Reference href="x"/>')), invalid("FileParam")),
        (
            body(
                given_as("FileParam", '<wps:Reference xlink:href="x"><wps:Body/></wps:Reference>')
            ),
            invalid("FileParam"),
        ),
        (
            body(given_as("FileParam", '<wps:Reference xlink:href="x" method="POST"/>')),
            invalid("FileParam"),
        ),
        (complex_data(""), invalid("FileParam")),
        (complex_data(" \n"), invalid("FileParam")),
        (complex_data("x<!-- y -->"), invalid("FileParam")),
        (complex_data("x", 'encoding="hex"'), invalid("FileParam")),
        (complex_data("x!", 'encoding="base64"'), invalid("FileParam")),
        (complex_data("<a>" * 9000 + "</a>" * 9000), MALFORMED),
        (body(literal("Image", "1") * 51), invalid("DataInputs")),
        # Of another process, none of our rules for inputs and outputs is said.
        (another(literal("epsilon", "1", 'dataType="xs:integer"')), invalid("Identifier")),
        (
            another(given_as("box", "<wps:Data><wps:BoundingBoxData/></wps:Data>")),
            invalid("Identifier"),
        ),
        (another(given_as("pts", "")), invalid("Identifier")),
        (
            another(form="<wps:ResponseForm><wps:RawDataOutput/></wps:ResponseForm>"),
            invalid("Identifier"),
        ),
        (body(given_as("Bogus", "")), invalid("Bogus")),
        (body(given_as("Bogus", DATA * 2)), invalid("Bogus")),
        (body(literal("Image", "&undefined;")), MALFORMED),
        (body(literal("Image", "&#0;")), MALFORMED),
        (form('<wps:ResponseDocument status="true"/>'), invalid("status")),
        (form('<wps:ResponseDocument lineage="maybe"/>'), invalid("lineage")),
        (form('<wps:ResponseDocument storeExecuteResponse=""/>'), invalid("storeExecuteResponse")),
        (form("<wps:ResponseDocument/><wps:ResponseDocument/>"), MALFORMED),
        (form("<wps:ResponseDocument><wps:Output/></wps:ResponseDocument>"), missing("Identifier")),
        (form("<wps:RawDataOutput/>"), missing("Identifier")),
        (raw('encoding="hex"'), invalid("Result")),
        (raw('encoding="base64"'), invalid("Result")),
        (raw('uom="m"'), invalid("Result")),
        (output('encoding="hex"'), invalid("Result")),
        (output('encoding="base64" asReference="true"'), invalid("Result")),
        (output('encoding="base64" mimeType="text/xml"'), invalid("Result")),
        (output('schema="http://x"'), invalid("Result")),
        (describe(""), missing("Identifier")),
        (describe("<ows:Identifier/>"), missing("Identifier")),
        (
            describe("<ows:Identifier>a</ows:Identifier><ows:Identifier> </ows:Identifier>"),
            missing("Identifier"),
        ),
        (body(form="<wps:ResponseForm/><wps:ResponseForm/>"), MALFORMED),
        (body(form="<wps:DataInputs/>"), MALFORMED),
        (body(given_as("Image", DATA.replace("<wps:Data>", "<wps:Data>b"))), invalid("Image")),
        (body(given_as("Image", DATA.replace("</wps:Data>", "b</wps:Data>"))), invalid("Image")),
        (complex_data("<a/>" * 100_000), MALFORMED),
    ],
)
def test_a_wrong_request_is_refused_where_it_is_wrong(
    document: bytes, expected: tuple[int, str, str | None]
) -> None:
    assert refusal(document) == expected


@pytest.mark.parametrize("name", ["Image", "CommandName", "FileParam"])
@pytest.mark.parametrize(
    "value", ["&#10;a", "a&#13;", "a&#9;b", "\na\n", "\u202ea", "a\u200b", "\u00a0a"]
)
def test_characters_that_nobody_sees_are_refused(name: str, value: str) -> None:
    assert refusal(body(literal(name, value))) == invalid(name)


@pytest.mark.parametrize("name", ["Image", "CommandName"])
@pytest.mark.parametrize(
    "value",
    [
        "<wps:Data><wps:ComplexData>alpine</wps:ComplexData></wps:Data>",
        '<wps:Reference xlink:href="alpine"/>',
        '<wps:Reference xlink:href="file:///etc/passwd"/>',
    ],
)
def test_a_literal_is_not_taken_from_a_file(name: str, value: str) -> None:
    operation = execute(body(given_as(name, value)))
    with pytest.raises(RequestError) as refused:
        check_inputs(operation.inputs)
    assert (refused.value.code, refused.value.locator) == ("InvalidParameterValue", name)


@pytest.mark.parametrize("name", ["FileParam", "ItemParam"])
def test_the_item_may_be_given_as_a_literal_inline_or_by_reference(name: str) -> None:
    for value in (
        f"<wps:Data><wps:LiteralData>{ITEM}</wps:LiteralData></wps:Data>",
        f'<wps:Data><wps:ComplexData mimeType="text/plain">{ITEM}</wps:ComplexData></wps:Data>',
        f'<wps:Reference xlink:href="{ITEM}"/>',
    ):
        operation = execute(body(given_as(name, value)))
        check_inputs(operation.inputs)
        assert operation.texts() == {name: (ITEM,)}


def test_the_refusal_names_the_line_and_repeats_nothing() -> None:
    with pytest.raises(RequestError, match=r"\(line 3\)") as refused:
        parse_xml(b"<a>\n<secret>\n</b></a>")
    assert "secret" not in refused.value.text


def test_a_long_name_is_repeated_in_part_only() -> None:
    with pytest.raises(RequestError) as refused:
        parse_xml(body(literal("x" * 100_000, "")))
    assert len(refused.value.text) < 200


# -- document types, entities and encodings


def with_doctype(doctype: str, value: str = "alpine") -> str:
    return body(literal("Image", value), prolog=doctype).decode()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_no_document_type_is_read_in_any_encoding(listener: socket.socket, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("alpine")
    port = listener.getsockname()[1]
    lol = "".join(f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' for number in range(1, 10))
    doctypes = [
        with_doctype("<!DOCTYPE wps:Execute>"),
        with_doctype(f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>', "&e;"),
        with_doctype(f'<!DOCTYPE x [<!ENTITY e SYSTEM "http://127.0.0.1:{port}/">]>', "&e;"),
        with_doctype(f'<!DOCTYPE x SYSTEM "http://127.0.0.1:{port}/x.dtd">'),
        with_doctype(f'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:{port}/">%p;]>'),
        with_doctype('<!DOCTYPE x [<!ENTITY e "b">]>', "a&e;c"),
        with_doctype(f'<!DOCTYPE x [<!ENTITY l0 "lol">{lol}]>', "&l9;"),
        with_doctype(f'<!DOCTYPE x [<!ENTITY q "{"q" * 100_000}">]>', "&q;" * 10_000),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for document in doctypes:
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            for prolog in ("", f'<?xml version="1.0" encoding="{encoding[:6]}"?>'):
                started = time.process_time()
                assert refusal((prolog + document).encode(encoding)) == MALFORMED
                assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    with pytest.raises(BlockingIOError):
        listener.accept()  # nobody has knocked


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp037", "utf-7"]
)
def test_another_encoding_than_utf_8_is_refused(encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?>' + body(literal("Image", "é")).decode()
    assert refusal(document.encode(encoding)) == MALFORMED


def test_what_calls_itself_utf_8_and_is_not_is_refused() -> None:
    document = '<?xml version="1.0" encoding="UTF-8"?>' + body(literal("Image", "é")).decode()
    assert refusal(document.encode("latin-1")) == MALFORMED


def test_what_is_utf_8_and_calls_itself_something_else_is_refused() -> None:
    for name in ("ISO-8859-1", "UTF-7", "UTF-16", "x"):
        document = f"<?xml version='1.0' encoding='{name}'?>" + body().decode()
        assert refusal(document.encode()) == MALFORMED


# -- floods


@pytest.mark.parametrize(
    "document",
    [
        body(literal("Image", "<a>" * 10_000 + "</a>" * 10_000)),
        body("<wps:Input>" * 10_000 + "</wps:Input>" * 10_000),
        body(literal("Image", "a") * 15_000),
        body("<wps:Input/>" * 200_000),
        body(attributes=" ".join(f'a{n}="1"' for n in range(100_000)) + ' service="WPS"'),
        body(" ".join(f"<!-- {n} -->" for n in range(200_000))),
        body("<b {}/>".format(" ".join(f'a{n}=""' for n in range(99))) * 4_000),
        body("<b '" * 99_000),
        body("<b " + "'" * 3_000_000),
        (
            f'<wps:DescribeProcess service="WPS" version="1.0.0" {NAMESPACES}>'
            f"{'<ows:Identifier>x</ows:Identifier>' * 10_000}</wps:DescribeProcess>"
        ).encode(),
        body(
            form="<wps:ResponseForm><wps:ResponseDocument>"
            + "<wps:Output><ows:Identifier>Result</ows:Identifier></wps:Output>" * 30_000
            + "</wps:ResponseDocument></wps:ResponseForm>"
        ),
    ],
    ids=lambda document: f"{len(document)} bytes",
)
def test_a_flood_is_answered_in_less_than_a_second(document: bytes) -> None:
    started = time.process_time()
    with contextlib.suppress(RequestError):
        parse_xml(document)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("document", "count"),
    [
        ("<a b='=' c = \"&lt;\" d='>\"'/>", 3),
        ("<a\n\tb='1'>c='1' d=\"e\"<é:f xmlns:é='u' é:g='h'/></a>", 3),
        ("<_a b='1'/>", 1),
        ("<a><![CDATA[<b>c='d'</b>]]></a>", 0),
    ],
)
def test_attributes_are_counted_and_never_too_few(document: str, count: int) -> None:
    root = etree.fromstring(document)
    assert sum(len(item.attrib) for item in root.iter()) <= count
    # A sign of equality in a value counts as one more.
    assert count <= _attributes(document.encode()) <= count + 1


def test_many_signs_of_equality_in_a_text_are_no_attributes() -> None:
    assert read_root(b"<a>" + b'a="b" ' * 500_000 + b"</a>").tag == "a"


# -- anything

PIECES = st.lists(
    st.sampled_from(
        [
            *(
                b"<?xml version='1.0'?>",
                b"<wps:Execute service='WPS'",
                b" ",
                b">",
                b"</wps:Execute>",
            ),
            *(NAMESPACES.encode(), b"<wps:DataInputs>", b"<wps:Input>", b"<ows:Identifier>", b"x"),
            *(
                b"<!-- -->",
                b"<![CDATA[",
                b"]]>",
                b"&amp;",
                b"&#1;",
                b"\xff",
                b"\0",
                b"<",
                b'"',
                b"/>",
            ),
        ]
    )
).map(b"".join)

NAMES = st.sampled_from(
    [
        *("Execute", "DescribeProcess", "GetCapabilities", "Foo", "AcceptVersions", "Version"),
        *("Identifier", "DataInputs", "Input", "Data", "LiteralData", "ComplexData", "Reference"),
        *("ResponseForm", "ResponseDocument", "RawDataOutput", "Output"),
    ]
)
SPACES = st.sampled_from(
    [WPS, "http://www.opengis.net/ows/1.1", "http://www.opengis.net/wps/2.0", ""]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        [
            *("service", "version", "language", "status", "storeExecuteResponse", "lineage"),
            *("mimeType", "uom", "asReference", "dataType", "{http://www.w3.org/1999/xlink}href"),
        ]
    ),
    st.sampled_from(["WPS", "1.0.0", "true", "", "x"]),
    max_size=3,
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 5) -> etree._Element:
    space, name = draw(SPACES), draw(NAMES)
    element = etree.Element(f"{{{space}}}{name}" if space else name)
    for key, value in draw(ATTRIBUTES).items():
        element.set(key, value)
    element.text = draw(st.sampled_from(["", "x", "1.0.0", "\n", "é"]))
    if depth:
        for child in draw(st.lists(trees(depth=depth - 1), max_size=2)):
            element.append(child)
    return element


@given(st.one_of(PIECES, st.binary(), trees().map(etree.tostring)))
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    with contextlib.suppress(RequestError):
        operation = parse_xml(document)
        assert isinstance(operation, GetCapabilities | DescribeProcess | Execute)


def test_a_document_type_inside_a_files_content_is_content() -> None:
    page = "<!DOCTYPE html><p>a</p>"
    content = f'<wps:ComplexData mimeType="text/html"><![CDATA[{page}]]></wps:ComplexData>'
    operation = execute(body(given_as("FileParam", f"<wps:Data>{content}</wps:Data>")))
    (value,) = operation.inputs["FileParam"]
    assert value.content == InputContent(data=page.encode(), media_type="text/html")


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE a>",
        "<!-- <![CDATA[ --><!DOCTYPE a><!-- ]]> -->",
        "<?p <![CDATA[ ?><!DOCTYPE a><?p ]]> ?>",
        "<!-- <? --><!DOCTYPE a><!-- ?> -->",
        "<?p <!-- ?><!DOCTYPE a><?p --> ?>",
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "<![CDATA[">]>',
        "<![CDATA[<!DOCTYPE a>]]>",
    ],
)
def test_no_document_type_hides_behind_what_is_none(prolog: str) -> None:
    assert refusal(body(prolog=prolog)) == MALFORMED

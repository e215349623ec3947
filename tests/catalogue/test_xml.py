"""X: XML, in both versions."""

from __future__ import annotations

import pytest

from catalogue.asking import (
    IPV,
    ITEM,
    MISSING,
    MPV,
    NAC,
    ONS,
    WRONG_INPUT,
    Row,
    accepted,
    data,
    each,
    execute1,
    execute2,
    in_both,
    literal,
    post,
    reference,
    reference2,
)
from catalogue.world import World
from die_algorithm.description import IDENTIFIER

GONE1, GONE2 = literal("FileParam", MISSING), data("FileParam", MISSING)
WPS1, WPS2 = "http://www.opengis.net/wps/1.0.0", "http://www.opengis.net/wps/2.0"
#: What an attacker would have us read: with one of the listeners behind it, or a file.
HREFS = (
    "http://127.0.0.1:8081/x", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd",
)  # fmt: skip
FOREIGN = (
    *HREFS, "ftp://127.0.0.1/x", "gopher://127.0.0.1:80/_x", "dict://127.0.0.1:80/x", "//169.254.169.254/x", "http://metadata.test/", "https://127.0.0.1/", "jar:http://127.0.0.1!/x",
)  # fmt: skip
#: Names that a file of the workspace may have: StorageHub is asked for it, and nobody else.
NAMES = ("data:text/plain,x", r"\\127.0.0.1\share")


def bad(
    name: str, body: str | bytes, status: int = 400, code: str = NAC, locator: str | None = None
) -> Row:
    return Row(name=name, ask=post(body), status=status, code=code, locator=locator)


def doctypes(text: str) -> list[tuple[str, str]]:
    """A request behind each kind of document type; ``&x;`` stands in its image."""
    full = execute1(Image=literal("Image", f"die-tests/{text}"))
    return [
        ("entity-literal", f'<!DOCTYPE a [<!ENTITY x "probe">]>{full}'),
        *((f"entity-{n}", f'<!DOCTYPE a [<!ENTITY x SYSTEM "{href}">]>{full}') for n, href in enumerate(HREFS)),
        *((f"public-{n}", f'<!DOCTYPE a PUBLIC "-//x//y" "{href}">{full}') for n, href in enumerate(HREFS)),
        *((f"dtd-{n}", f'<!DOCTYPE a SYSTEM "{href}">{full}') for n, href in enumerate(HREFS)),
        *((f"parameter-{n}", f'<!DOCTYPE a [<!ENTITY % p SYSTEM "{href}"> %p;]>{full}') for n, href in enumerate(HREFS)),
        ("laughs", LAUGHS + full),
        ("quadratic", f'<!DOCTYPE a [<!ENTITY x "{"a" * 100_000}">]>{full.replace("&x;", "&x;" * 10_000)}'),
    ]  # fmt: skip


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY l0 "ha">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    + '<!ENTITY x "&l11;">]>'
)
DOCTYPES = doctypes("&x;")
ATTRIBUTE_FEW = " ".join(f'a{n}="1"' for n in range(10))
ATTRIBUTES = " ".join(f'a{n}="1"' for n in range(100_000))


def namespaces(count: int, uri: str = "u") -> str:
    """Declarations of as many namespaces."""
    return " ".join(f'xmlns:n{n}="{uri}"' for n in range(count))


def embedded1(content: str) -> str:
    """FileParam of WPS 1.0.0 that holds a document."""
    return literal("FileParam", content, 'mimeType="text/xml"').replace(
        "LiteralData", "ComplexData"
    )


#: What would be written again and again, or long: declarations, and what is embedded below them.
EMBEDDED = (
    ("children", namespaces(1500), "<b/>" * 1500),
    ("many-children", namespaces(99), "<b/>" * 90_000),
    ("long", namespaces(1, "u" * 100_000), "<b/>" * 5000),
    ("many", namespaces(100_000), "<b/>"),
    ("own", "", f"<b {namespaces(100_000)}/>"),
    ("comments", namespaces(90), "<b/>" + "<!---->" * 90_000),
    ("nested", namespaces(90), f"<b {namespaces(50)}>" * 100 + "</b>" * 100 + "<b/>"),
)

ROWS = [
    *(bad(f"X1-{n}", body) for n, body in enumerate((b"", b" \n", b"\xef\xbb\xbf", b"\0"))),
    *(
        bad(f"X2-{n}", body)
        for n, body in enumerate((
            "hello", execute1()[:-5], execute2()[:-5], f"{execute1()}x", f"{execute1()}<a/>", "<", "<a>", "<a></b>",
            '{"a": 1}', "<a\x01/>", "<a b=1/>", "<a b='1' b='2'/>", "<x:a/>", execute1().replace("probe noop", "a & b"),
            execute1(Image=literal("Image", "&unknown;")), execute1(Image=literal("Image", "&#0;")),
            # Each was looked at once for each beginning: minutes for a body of this size.
            "<!--" * 700_000, "<![CDATA[" * 300_000, "<?" * 1_000_000,
        ))
    ),
    bad("X4-foreign", '<Execute xmlns="urn:x" service="WPS"/>'),
    bad("X4-none", '<Execute service="WPS"/>'),
    bad("X4-html", "<html><body onload='x'/></html>"),
    bad("X5-1.0.0", f'<w:Foo xmlns:w="{WPS1}" service="WPS"/>', 501, ONS, "Foo"),
    bad("X5-2.0.0", f'<w:Foo xmlns:w="{WPS2}" service="WPS"/>', 501, ONS, "Foo"),
    bad("X5-GetStatus", f'<w:GetStatus xmlns:w="{WPS1}" service="WPS"/>', 501, ONS, "GetStatus"),
    # Both versions are spoken here; what is refused is a version in the other's namespace.
    bad("X7-2.0-in-1.0", execute1(root='service="WPS" version="2.0.0"'), 400, IPV, "version"),
    bad("X7-1.0-in-2.0", execute2().replace('version="2.0.0"', 'version="1.0.0"'), 400, IPV, "version"),
    *accepted("X7-none", *(post(execute1(root=f'service="WPS" {version}', FileParam=GONE1)) for version in ("", 'version=""'))),
    *accepted("X7-none-2.0", *(post(execute2(FileParam=GONE2).replace('version="2.0.0"', version)) for version in ("", 'version=""'))),
    bad("X7-9", execute1(root='service="WPS" version="9"'), 400, IPV, "version"),
    *(bad(f"X8-{n}", body) for n, body in enumerate((
        f"<!DOCTYPE a>{execute1()}", f"<!DOCTYPE a>{execute2()}", f"<!doctype a>{execute1()}",
        f"<?xml version='1.0'?>\n<!-- c --><?p i?> <!DOCTYPE a []>{execute1()}", f"\ufeff<!DOCTYPE a>{execute1()}",
        f"{execute1()}<!DOCTYPE a>",
        # The parser passes over a second mark of the encoding.
        f'\ufeff\ufeff<!DOCTYPE a [<!ENTITY x "y">]>{execute1()}', f'\ufeff\ufeff<!DOCTYPE a []>{execute2()}',
    ))),
    *(bad(f"X14-marks-{codec}-{n}", (mark * 2 + f'<!DOCTYPE a [<!ENTITY x "y">]>{body}').encode(codec))
      for codec, mark in (("utf-16-le", "\ufeff"), ("utf-16-be", "\ufeff"), ("utf-32-le", "\ufeff")) for n, body in enumerate((execute1(), execute2()))),
    *accepted("X8-in-a-comment", post(execute1(before="<!-- <!DOCTYPE a> -->", FileParam=GONE1))),
    *(bad(f"X10-X13-{name}", body) for name, body in DOCTYPES),
    *(
        bad(f"X14-{encoding}-{name}", f'<?xml version="1.0" encoding="{encoding}"?>{body}'.encode(codec))
        for encoding, codec in (("UTF-16", "utf-16"), ("UTF-16LE", "utf-16-le"), ("UTF-16BE", "utf-16-be"), ("UTF-32", "utf-32"), ("UTF-7", "utf-7"), ("UTF-16", "utf-8"), ("EBCDIC-CP-US", "cp037"))
        for name, body in (("plain", execute1()), DOCTYPES[0], DOCTYPES[1])
    ),
    *in_both("X16", "Image", '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'),
    *accepted("X17", *(post(body) for before in ('<?xml-stylesheet href="http://127.0.0.1:8081/x" type="text/xsl"?>', "<?php x ?>") for body in (execute1(before=before, FileParam=GONE1), execute2(before=before, FileParam=GONE2)))),
    *in_both("X18", "Image", "die-tests/<!-- x -->probe"),
    *in_both("X18-end", "Image", "die-tests/probe<!-- x -->"),
    *in_both("X19", "Image", "die-tests/<?x y?>probe"),
    *in_both("X20", "Image", "a<b>c</b>d"),
    *in_both("X20-command", "CommandName", "run<wps:x/>"),
    *in_both("X20-file", "FileParam", f"<x/>{ITEM}"),
    *accepted("X21-CDATA", post(execute1(Image=literal("Image", "<![CDATA[a/b]]>"), FileParam=GONE1))),
    *(row for given in ("Image", "CommandName", "FileParam") for row in in_both(f"X22-{given}", given, "")),
    bad("X22-self-closed", execute1().replace("<wps:LiteralData >die-tests/probe</wps:LiteralData>", "<wps:LiteralData/>"), 400, IPV, "Image"),
    bad("X22-no-data", execute1(Image="<wps:Input><ows:Identifier>Image</ows:Identifier></wps:Input>"), 400, MPV, "Image"),
    bad("X22-no-data-2.0", execute2(Image='<wps:Input id="Image"/>'), 400, MPV, "Image"),
    # 1.0.0 alone: what stands in a wps:Data of 2.0 may be indented, as its serialisers do.
    *(bad(f"X23-{given}-{n}", execute1(**{given: literal(given, f"{space}{value}{space}")}), 400, IPV, given)
      for given, value in (("Image", "a/b"), ("CommandName", "run"), ("FileParam", ITEM))
      for n, space in enumerate((" ", "\n", "\t"))),
    *(row for given in ("Image", "CommandName", "FileParam") for code in ("10", "13", "9")
      for row in in_both(f"X25-{given}-{code}", given, f"a&#{code};b")),
    bad("X26-depth", "<a>" * 10_000 + "</a>" * 10_000),
    bad("X26-depth-open", "<a>" * 1_000_000),
    bad("X26-attributes-root", execute1(root=f'service="WPS" version="1.0.0" {ATTRIBUTES}')),
    bad("X26-attributes-literal", execute1(Image=literal("Image", "a/b", ATTRIBUTES))),
    bad("X26-attributes-2.0", execute2(Image=data("Image", "a/b", ATTRIBUTES))),
    *(bad(f"X26-namespaces-{name}-1.0.0", execute1(root=f'service="WPS" version="1.0.0" {declared}', FileParam=embedded1(content)), 400, IPV, "FileParam") for name, declared, content in EMBEDDED),
    *(bad(f"X26-namespaces-{name}-2.0.0", execute2(FileParam=data("FileParam", content, f'mimeType="text/xml" {declared}')), 400, WRONG_INPUT, "FileParam") for name, declared, content in EMBEDDED),
    *accepted("X26-namespaces-unused", post(execute1(root=f'service="WPS" version="1.0.0" {namespaces(100_000)}', FileParam=GONE1)), post(execute2(FileParam=data("FileParam", MISSING, namespaces(100_000))))),
    bad("X26-attributes-many", execute1(more=f"<a {ATTRIBUTE_FEW}/>" * 16_000)), bad("X26-attributes-many-2.0", execute2(more=f"<a {ATTRIBUTE_FEW}/>" * 16_000)),
    *accepted("X26-attributes-many-beside", post(execute1(more=f"<a {ATTRIBUTE_FEW}/>" * 14_000, FileParam=GONE1))),
    bad("X26-inputs", execute1(more=literal("Image", "a") * 10_000), 400, IPV, "DataInputs"),
    bad("X26-inputs-2.0", execute2(more=data("Image", "a") * 10_000), 400, "TooManyInputs", "Input"),
    # What is not of WPS is passed over wherever it stands. More than a hundred thousand of anything are not read:
    # the row's million would fill the memory, and is larger than a body may be.
    bad("X26-siblings", "<a>" + "<b/>" * 700_000 + "</a>"),
    *accepted("X26-siblings-beside", post(execute1(more="<b/>" * 99_000, FileParam=GONE1))),
    bad("X26-siblings-in-2.0.0", execute2(FileParam=data("FileParam", "<b/>" * 700_000))), bad("X26-siblings-deeper", execute1(more=f"<a>{'<b/>' * 600_000}</a>")),
    *accepted("X28-prefixes", post(execute1(FileParam=GONE1).replace("wps:", "a:").replace("xmlns:wps", "xmlns:a")),
              post(execute2(FileParam=GONE2).replace("wps:", "ows2:").replace("xmlns:wps", "xmlns:ows2"))),
    bad("X29-Identifier", execute1(Image=literal("Image", "a/b").replace("ows:Identifier", "wps:Identifier")), 400, MPV, "Identifier"),
    bad("X29-process", execute1(identifier=f"<wps:Identifier>{IDENTIFIER}</wps:Identifier>"), 400, MPV, "Identifier"),
    bad("X29-Data", execute1(Image=literal("Image", "a/b").replace("wps:Data>", "ows:Data>")), 400, MPV, "Image"),
    bad("X29-Data-2.0", execute2(Image=data("Image", "a/b").replace("wps:Data", "ows:Data")), 400, MPV, "Image"),
    *accepted("X31", *(post(execute1(Image=literal("Image", "a/b", attribute), FileParam=GONE1)) for attribute in (
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:anyURI"', 'xml:base="http://127.0.0.1:8081/"',
        'xlink:href="http://169.254.169.254/"',
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:x http://127.0.0.1:8081/x.xsd"'))),
    bad("X32-none", execute1(more="<wps:Input><wps:Data><wps:LiteralData>x</wps:LiteralData></wps:Data></wps:Input>"), 400, MPV, "Identifier"),
    bad("X32-empty", execute1(more=literal("", "x")), 400, MPV, "Identifier"),
    bad("X32-two", execute1(more=literal("A</ows:Identifier><ows:Identifier>B", "x"))),
    bad("X32-none-2.0", execute2(more="<wps:Input><wps:Data>x</wps:Data></wps:Input>"), 400, MPV, "id"),
    bad("X32-process", execute1(identifier=""), 400, MPV, "Identifier"),
    bad("X32-process-two", execute1(identifier=f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>" * 2)),
    bad("X33-twice", execute1(more=literal("Image", "a/b")), 400, IPV, "Image"),
    bad("X33-twice-2.0", execute2(more=data("Image", "a/b")), 400, "TooManyInputs", "Image"),
    bad("X34", execute1(more=literal("Bogus", "1")), 400, IPV, "Bogus"),
    bad("X34-2.0", execute2(more=data("Bogus", "1")), 400, "NoSuchInput", "Bogus"),
    bad("X35", execute1(Image=literal("image", "a/b")), 400, IPV, "image"),
    bad("X35-2.0", execute2(Image=data("image", "a/b")), 400, "NoSuchInput", "image"),
    bad("X37", execute1(Image=literal("Image", "a/b", 'uom="m"')), 400, IPV, "Image"),
    bad("X37-type", execute1(Image=literal("Image", "a/b", 'dataType="xs:integer"')), 400, IPV, "Image"),
    bad("X37-2.0", execute2(Image=data("Image", '<wps:LiteralValue uom="m">a/b</wps:LiteralValue>')), 400, WRONG_INPUT, "Image"),
    *(bad(f"X38-{given}-{n}", execute1(**{given: reference(given, href)}), 400, IPV, given)
      for given in ("Image", "CommandName", "FileParam") for n, href in enumerate(FOREIGN)),
    *(bad(f"X38-{given}-{n}-2.0", execute2(**{given: reference2(given, href)}), 400, WRONG_INPUT, given)
      for given in ("Image", "CommandName", "FileParam") for n, href in enumerate(FOREIGN)),
    *(bad(f"X38-{given}-plain", execute1(**{given: reference(given, value)}), 400, IPV, given)
      for given, value in (("Image", "alpine"), ("CommandName", "run"))),
    *accepted("X38-name", *(post(body) for name in NAMES for body in (execute1(FileParam=reference("FileParam", name)), execute2(FileParam=reference2("FileParam", name))))),
    bad("X38-post", execute1(FileParam=reference("FileParam", "http://127.0.0.1:8081/").replace("/></wps:Input>", ' method="POST"><wps:Body>x</wps:Body></wps:Reference></wps:Input>')), 400, IPV, "FileParam"),
    bad("X38-header", execute1(FileParam=reference("FileParam", "http://127.0.0.1:8081/").replace("/></wps:Input>", '><wps:Header key="a" value="b"/></wps:Reference></wps:Input>')), 400, IPV, "FileParam"),
    *(bad(f"X40-{given}", execute1(**{given: literal(given, "a").replace("LiteralData", "ComplexData")}), 400, IPV, given) for given in ("Image", "CommandName")),
    *(bad(f"X40-box-{given}", execute1(**{given: literal(given, "a").replace("LiteralData", "BoundingBoxData")}), 400, IPV, given) for given in ("Image", "CommandName", "FileParam")),
    bad("X41", execute1(FileParam=literal("FileParam", "a").replace("</wps:Input>", '<wps:Reference xlink:href="http://127.0.0.1:8081/"/></wps:Input>'))),
    bad("X41-text", execute1(FileParam=reference("FileParam", ITEM).replace("<wps:Reference", "<wps:Data>a</wps:Data><wps:Reference"))),
    bad("X41-empty", execute1(FileParam=reference("FileParam", ITEM).replace("<wps:Reference", "<wps:Data/><wps:Reference"))),
    bad("X41-two-data", execute1(Image=literal("Image", "a</wps:LiteralData><wps:LiteralData>b"))),
    bad("X41-2.0", execute2(FileParam=data("FileParam", "a").replace("</wps:Input>", '<wps:Reference xlink:href="http://127.0.0.1:8081/"/></wps:Input>')), 400, "TooManyInputs", "FileParam"),
    bad("X43", execute1(identifier="<ows:Identifier>nix</ows:Identifier>"), 400, IPV, "Identifier"),
    bad("X43-script", execute1(identifier="<ows:Identifier>&lt;script&gt;alert(1)&lt;/script&gt;</ows:Identifier>"), 400, IPV, "Identifier"),
    bad("X43-script-2.0", execute2(identifier="&lt;script&gt;alert(1)&lt;/script&gt;"), 404, "NoSuchProcess", "<script>alert(1)</script>"),
    bad("X43-inputs", execute1(identifier="<ows:Identifier>nix</ows:Identifier>", more=literal("eps", "1", 'dataType="xs:integer"')), 400, IPV, "Identifier"),
    bad("X43-inputs-2.0", execute2(identifier="nix", more=data("pts", "{}", 'mimeType="application/json"')), 404, "NoSuchProcess", "nix"),
    bad("X34-format-2.0", execute2(more=data("Bogus", "{}", 'mimeType="application/json"')), 400, "NoSuchInput", "Bogus"),
    bad("X34-nothing", execute1(more="<wps:Input><ows:Identifier>Bogus</ows:Identifier></wps:Input>"), 400, IPV, "Bogus"),
    bad("X44", execute1(root='service="WMS" version="1.0.0"'), 400, IPV, "service"),
    bad("X44-absent", execute1(root='version="1.0.0"'), 400, MPV, "service"),
    bad("X44-2.0", execute2().replace('service="WPS"', 'service="WMS"'), 400, IPV, "service"),
    bad("X44-absent-2.0", execute2().replace('service="WPS"', ""), 400, MPV, "service"),
    bad("X46", execute1(root='service="WPS" version="1.0.0" language="xx"'), 400, IPV, "language"),
    bad("X47", f'<w:DescribeProcess xmlns:w="{WPS1}" xmlns:o="http://www.opengis.net/ows/1.1" service="WPS" version="1.0.0">{f"<o:Identifier>{IDENTIFIER}</o:Identifier>" * 10_000}</w:DescribeProcess>', 400, IPV, "Identifier"),
    bad("X47-2.0", f'<w:DescribeProcess xmlns:w="{WPS2}" xmlns:o="http://www.opengis.net/ows/2.0" service="WPS" version="2.0.0">{"<o:Identifier>ALL</o:Identifier>" * 10_000}</w:DescribeProcess>', 400, IPV, "Identifier"),
]  # fmt: skip


@each(ROWS)
def test_xml(catalogue: World, row: Row) -> None:
    catalogue.hold(row)


@pytest.mark.parametrize("name", ["laughs", "quadratic"])
def test_x13_a_bomb_costs_no_memory(catalogue: World, name: str) -> None:
    body = dict(DOCTYPES)[name]
    before = catalogue.memory()
    for _ in range(3):
        catalogue.ask(post(body))
    assert catalogue.memory() - before < 50 * 2**20

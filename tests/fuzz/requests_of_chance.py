"""Hypothesis's generators of requests: good ones of both versions, changed as a tree, as pairs and as bytes.

The file that they name does not exist, so that an Execute which is right by chance is refused at its end.
One that holds its file itself is accepted, and its job runs in a stand-in engine, where it harms nobody.
"""

from __future__ import annotations

import copy

from catalogue.asking import (
    MISSING,
    WRONG,
    Ask,
    data,
    execute1,
    execute2,
    execute_query,
    literal,
    pairs,
)
from hypothesis import strategies as st
from lxml import etree
from storagehub_fixture import ALICE
from wps2_fixture import about_job, request

from die_algorithm.description import IDENTIFIER
from die_algorithm.web import CANCEL_PATH, JOBS_PATH, STATUS_PATH, WPS_PATH

_OWS1 = 'xmlns:ows="http://www.opengis.net/ows/1.1"'
_GOOD = (
    execute1(FileParam=literal("FileParam", MISSING)),
    execute2(FileParam=data("FileParam", MISSING)),
    *(about_job(operation, MISSING) for operation in ("GetStatus", "GetResult", "Dismiss")),
    request("GetCapabilities", "<ows:AcceptVersions><ows:Version>2.0.0</ows:Version></ows:AcceptVersions>", ""),
    request("DescribeProcess", f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>"),
    '<wps:GetCapabilities xmlns:wps="http://www.opengis.net/wps/1.0.0" service="WPS"/>',
    f'<wps:DescribeProcess xmlns:wps="http://www.opengis.net/wps/1.0.0" {_OWS1} service="WPS" version="1.0.0">'
    "<ows:Identifier>ALL</ows:Identifier></wps:DescribeProcess>",
)  # fmt: skip
#: What has broken readers before.
_WORDS = (
    "", "x", "true", "2.0.0", "1.0.0", "WPS", "ALL", MISSING, IDENTIFIER, "Image", "Result", "alpine", "../x", "a\nb",
    "&x;", "]]>", "<!DOCTYPE a>", "<a>", "%zz", "%00", "%25", "@mimeType=", "@xlink:href=http://127.0.0.1:1/", ";", "=",
    "{{.X}}", "\ufffe", "\U0001f433", "\u202e", "0" * 300, "http://169.254.169.254/", "base64", "async", "raw", "-1",
)  # fmt: skip
_TOKENS = (
    (), (("gcube-token", ALICE.token),), (("gcube-token", ALICE.token),), (("gcube-token", WRONG),), (("gcube-token", "x"),),
    (("Authorization", "Basic OjpiYWQ="),), (("Authorization", f"Bearer {ALICE.token}"),),
)  # fmt: skip
_TYPES = (
    "text/xml",
    "text/xml",
    "text/xml",
    "application/xml",
    "application/json",
    "",
    "text/xml; charset=latin-1",
)
_QUERIES = (
    execute_query(pairs(FileParam=MISSING)),
    "service=WPS&request=GetCapabilities",
    "service=WPS&version=2.0.0&request=GetCapabilities&AcceptVersions=2.0.0",
    f"service=WPS&version=1.0.0&request=DescribeProcess&Identifier={IDENTIFIER}",
    f"service=WPS&version=2.0.0&request=GetResult&JobID={MISSING}",
)  # fmt: skip
_PATHS = (
    WPS_PATH,
    WPS_PATH,
    WPS_PATH,
    WPS_PATH,
    STATUS_PATH,
    CANCEL_PATH,
    JOBS_PATH,
    "/results/a/b.zip",
    "/",
    "//x",
    "/%2e%2e/x",
)

_words = st.sampled_from(_WORDS) | st.text(max_size=12)


def _change(draw: st.DrawFn, root: etree._Element) -> None:
    """Change one thing in a tree."""
    elements = list(root.iter("*"))
    one, other = draw(st.sampled_from(elements)), draw(st.sampled_from(elements))
    word = "".join(c for c in draw(_words) if c.isprintable())
    match draw(st.integers(0, 8)):
        case 0:
            one.text = word
        case 1:
            one.tail = word
        case 2:
            one.set("{http://www.w3.org/1999/xlink}href", word)
        case 3 if one.attrib:
            one.set(min(one.attrib), word)
        case 4 if one is not root:
            one.getparent().remove(one)  # type: ignore[union-attr]
        case 5:
            one.append(copy.deepcopy(other))
        case 6:
            one.append(etree.Comment("x") if len(word) % 2 else etree.PI("x", "y"))
        case 7:
            one.tag = other.tag
        case 8:
            one.extend([etree.Element("b") for _ in range(draw(st.sampled_from((1, 2, 1500))))])


def _with_namespaces(body: bytes, count: int) -> bytes:
    """A document that declares some namespaces more at its top."""
    name, blank, rest = body.partition(b" ")
    return name + b"".join(b' xmlns:n%d="u"' % n for n in range(count)) + blank + rest


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body: a good one, changed."""
    root = etree.fromstring(draw(st.sampled_from(_GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        _change(draw, root)
    body = _with_namespaces(etree.tostring(root), draw(st.sampled_from((0, 0, 0, 0, 2, 99, 1500))))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2, 3)))):
        at = draw(st.integers(0, len(body)))
        cut = draw(st.sampled_from((0, 0, 1, 10, 1000)))
        new = draw(st.binary(max_size=6) | st.sampled_from(_WORDS).map(str.encode))
        body = body[:at] + new + body[at + cut :]
    return body


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A query: a good one, its pairs changed, doubled, left out; perhaps no more text."""
    parts = draw(st.sampled_from(_QUERIES)).split("&")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(parts) - 1)) if parts else 0
        word = draw(_words)
        match draw(st.integers(0, 4)):
            case 0 if parts:
                del parts[at]
            case 1 if parts:
                parts.insert(0, parts[at])
            case 2 if parts:
                parts[at] = parts[at].partition("=")[0] + "=" + word
            case 3 if parts:
                inside = draw(st.integers(0, len(parts[at])))
                parts[at] = parts[at][:inside] + word + parts[at][inside:]
            case _:
                parts.append(f"{draw(_words)}={word}")
    # A blank would end the address, and a line's end the headers: that is another test.
    text = "&".join(parts).encode("utf-8", "surrogatepass")
    return "".join(
        chr(byte) if 33 <= byte < 127 and byte != 35 else f"%{byte:02X}" for byte in text
    )


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """A request of chance."""
    headers = draw(st.sampled_from(_TOKENS))
    if draw(st.booleans()):
        kind = draw(st.sampled_from(_TYPES))
        return Ask(method="POST", headers=(*headers, ("Content-Type", kind)), body=draw(bodies()))
    path = draw(st.sampled_from(_PATHS))
    method = draw(st.sampled_from(("GET", "GET", "GET", "GET", "HEAD", "POST", "PUT")))
    return Ask(method=method, target=f"{path}?{draw(queries())}", headers=headers)

"""K: key-value pairs."""

from __future__ import annotations

from storagehub_fixture import ALICE

from catalogue.asking import (
    IPV,
    MISSING,
    MPV,
    NAC,
    ONS,
    VNF,
    Ask,
    Row,
    accepted,
    each,
    execute_query,
    kvp,
    pairs,
)
from catalogue.world import World
from die_algorithm.description import IDENTIFIER
from die_algorithm.web import WPS_PATH

GOOD = pairs()
GONE = pairs(FileParam=MISSING)
DIGEST = "sha256:" + "ab" * 32


def row(name: str, query: str, locator: str | None, code: str = IPV, status: int = 400) -> Row:
    return Row(name=name, ask=kvp(query), status=status, code=code, locator=locator)


def path(name: str, target: str) -> Row:
    return Row(name=name, ask=Ask(target=target), status=404, code=NAC)


ROWS = [
    row("K1-nothing", "", "service", MPV),
    row("K1-ampersands", "&&&", "service", MPV),
    row("K1-service-empty", "service=&request=GetCapabilities", "service", MPV),
    row("K1-request", "service=WPS", "request", MPV),
    row("K2-WMS", "service=WMS&request=GetCapabilities", "service"),
    row("K2-blank", "service=%20WPS&request=GetCapabilities", "service"),
    row("K4-Foo", "service=WPS&request=Foo", "Foo", ONS, 501),
    row("K4-Foo-2.0", "service=WPS&version=2.0.0&request=Foo", "Foo", ONS, 501),
    row("K4-markup", "service=WPS&request=%3Cscript%3E", "<script>", ONS, 501),
    row("K5-GetStatus", "service=WPS&version=1.0.0&request=GetStatus&JobID=x", "GetStatus", ONS, 501),
    row("K5-Dismiss", "service=WPS&request=Dismiss&JobID=x", "Dismiss", ONS, 501),
    row("K5-Execute-2.0", f"service=WPS&version=2.0.0&request=Execute&Identifier={IDENTIFIER}", "Execute", ONS, 501),
    row("K7-version", f"service=WPS&version=1.0&request=DescribeProcess&Identifier={IDENTIFIER}", "version"),
    row("K7-versions", "service=WPS&request=GetCapabilities&AcceptVersions=9.0.0,0.1", None, VNF),
    row("K7-version-3", f"service=WPS&version=3.0.0&request=DescribeProcess&Identifier={IDENTIFIER}", "version"),
    *accepted("K7-none", *(kvp(execute_query(GONE).replace("version=1.0.0&", version)) for version in ("", "version=&"))),
    row("K8-identifier", execute_query(GOOD, identifier=""), "Identifier", MPV),
    row("K8-describe", "service=WPS&version=1.0.0&request=DescribeProcess", "Identifier", MPV),
    row("K8-describe-2.0", "service=WPS&version=2.0.0&request=DescribeProcess", "Identifier", MPV),
    row("K8-unknown", execute_query(GOOD, identifier="nix"), "Identifier"),
    row("K8-unknown-inputs", execute_query("eps=1@datatype=integer", identifier="nix"), "Identifier"),
    row("K8-unknown-2.0", "service=WPS&version=2.0.0&request=DescribeProcess&Identifier=nix", "nix", "NoSuchProcess", 404),
    *accepted(
        "K10-digest",
        kvp(execute_query(f"Image=die-tests/probe@{DIGEST};CommandName=a;FileParam={MISSING}")),
        kvp(execute_query(f"Image=die-tests/probe%40{DIGEST};CommandName=a;FileParam={MISSING}")),
        kvp(execute_query(f"Image=die-tests/probe%2540{DIGEST};CommandName=a;FileParam={MISSING}")),
    ),
    *accepted("K11-equals", kvp(execute_query(pairs(CommandName="run --a=b== c=d", FileParam=MISSING)))),
    # Once encoded: what follows the first = is the value all the same.
    *accepted("K11-bare", kvp(execute_query(f"Image=a/b;CommandName=run%20x=y==;FileParam={MISSING}"))),
    *accepted("K13-empty", kvp(execute_query(f";;{GONE};;")), kvp(execute_query(f"{GONE};%20;"))),
    row("K13-loose", execute_query(f"{GOOD};loose"), "DataInputs"),
    row("K13-loose-first", execute_query(f"loose;{GOOD}"), "DataInputs"),
    row("K13-no-name", execute_query(f"=x;{GOOD}"), "DataInputs"),
    row("K14-Image", execute_query(pairs(Image="")), "Image"),
    row("K14-CommandName", execute_query(pairs(CommandName="")), "CommandName"),
    row("K14-FileParam", execute_query(pairs(FileParam="")), "FileParam"),
    row("K14-none", execute_query(""), "Image", MPV),
    row("K14-missing", execute_query(f"CommandName=a;FileParam={MISSING}"), "Image", MPV),
    row("K14-missing-file", execute_query("Image=a/b;CommandName=a"), "FileParam", MPV),
    row("K16-DataInputs", execute_query(GOOD, f"&DataInputs={GOOD}"), "DataInputs"),
    row("K16-request", "service=WPS&Request=GetCapabilities&REQUEST=Execute&request=DescribeProcess", "request"),
    row("K16-service", "service=WPS&SERVICE=WMS&request=GetCapabilities", "service"),
    row("K16-version", execute_query(GOOD, "&version=2.0.0"), "version"),
    row("K16-input", execute_query(f"{GOOD};Image=alpine"), "Image"),
    row("K16-both-files", execute_query(f"{GOOD};ItemParam=@ITEM@"), "ItemParam"),
    row("K16-href", execute_query("Image=a/b;CommandName=a;FileParam=@href=http://a/1@href=http://b/2"), "FileParam"),
    *accepted("K17-case", kvp(execute_query(GONE).replace("service", "SeRvIcE").replace("DataInputs", "DATAINPUTS"))),
    row("K17-input-case", execute_query(f"image=a;{GOOD}"), "image"),
    row("K17-unknown-input", execute_query(f"{GOOD};Bogus=1"), "Bogus"),
    row("K17-proto", execute_query(f"{GOOD};__proto__=1"), "__proto__"),
    row("K19-attribute", execute_query(f"Image=alpine@foo=bar;CommandName=a;FileParam={MISSING}"), "Image"),
    row("K19-schema", execute_query("Image=a/b;CommandName=a;FileParam=abc@schema=2.txt"), "FileParam"),
    row("K19-uom", execute_query(f"Image=alpine@uom=m;CommandName=a;FileParam={MISSING}"), "Image"),
    row("K19-datatype", execute_query(f"Image=alpine@datatype=integer;CommandName=a;FileParam={MISSING}"), "Image"),
    *(
        row(f"K20-{name}-{given}", execute_query(pairs(**{given: f"a{text}b"})), given)
        for given in ("Image", "CommandName", "FileParam")
        for name, text in (("NUL", "\0"), ("CRLF", "\r\n"), ("ESC", "\x1b[2J"), ("DEL", "\x7f"), ("NEL", "\x85"))
    ),
    *(
        Row(name=f"K22-{escape}", ask=kvp(execute_query(f"Image={escape};CommandName=a;FileParam=b")), code=NAC)
        for escape in ("%zz", "%", "%2", "%ff%fe", "%u0041", "%c0%ae")
    ),
    # A plus is a blank, in the query's encoding alone.
    *accepted("K23-plus", kvp(execute_query(f"Image=a/b;CommandName=run+x;FileParam={MISSING}"))),
    *accepted("K23-encoded", kvp(execute_query(f"Image=a/b;CommandName=run%20g%2B%2B;FileParam={MISSING}"))),
    row("K25-raw", execute_query(GOOD, "&RawDataOutput=nix").replace("&storeExecuteResponse=true&status=true", ""), "nix"),
    row("K25-two", execute_query(GOOD, "&RawDataOutput=Result;non_deterministic_output"), "RawDataOutput"),
    row("K25-empty", execute_query(GOOD, "&RawDataOutput=;").replace("&storeExecuteResponse=true&status=true", ""), "RawDataOutput"),
    row("K25-encoding", execute_query(GOOD, "&RawDataOutput=Result@encoding=hex").replace("&storeExecuteResponse=true&status=true", ""), "Result"),
    row("K26-document", execute_query(GOOD, "&ResponseDocument=nix"), "nix"),
    row("K26-document-second", execute_query(GOOD, "&ResponseDocument=Result;nix"), "nix"),
    row("K28-status", execute_query(GOOD).replace("&storeExecuteResponse=true", ""), "status"),
    row("K28-status-false", execute_query(GOOD).replace("storeExecuteResponse=true", "storeExecuteResponse=false"), "status"),
    row("K28-raw-status", execute_query(GOOD, "&RawDataOutput=Result"), "RawDataOutput"),
    row("K29-store", execute_query(GOOD).replace("Response=true", "Response=maybe"), "storeExecuteResponse"),
    row("K29-status", execute_query(GOOD).replace("&status=true", "&status=2"), "status"),
    row("K29-lineage", execute_query(GOOD, "&lineage=ja"), "lineage"),
    row("K29-language", execute_query(GOOD, "&language=xx"), "language"),
    *(
        path(f"K31-{target[:24]}", target)
        for target in (
            "/api", "/wps", "/wps/", "/wps/../../etc/passwd", "/wps/%2e%2e/%2e%2e/etc/passwd",
            f"{WPS_PATH};x?service=WPS&request=GetCapabilities", f"{WPS_PATH}%00",
            f"{WPS_PATH}%0d%0aX:y", "/WPS/webprocessingservice", "/.env", "/etc/passwd", "/%5c%5chost",
        )
    ),
    Row(name="K32-extra", ask=kvp("service=WPS&request=GetCapabilities&foo=bar&__proto__=x"), status=200, code=None),
    # Both slashes are the portal's own (``…:80//wps/…``), and asked for.
    Row(name="K31-slashes", ask=Ask(target=f"/{WPS_PATH}?service=WPS&request=GetCapabilities"), status=200, code=None),
    row("K34-parameters", "&".join(f"a{n}=1" for n in range(7_000)), None, NAC),
    # 431 where the row says 414: the line and the headers have one limit together, here and in waitress.
    Row(name="K34-more", ask=kvp("&".join(f"a{n}=1" for n in range(100_000))), status=431, code=NAC),
    Row(name="K34-semicolons", ask=kvp(execute_query(";" * 1_000_000)), status=431, code=NAC),
    row("K34-fewer", execute_query(";" * 50_000), "Image", MPV),
    row("K34-parts", execute_query("a=1;" * 12_000), "DataInputs"),
    *(
        Row(
            name=f"K35-{kind.partition('/')[2][:12]}",
            ask=Ask(
                method="POST",
                headers=(("gcube-token", ALICE.token), ("Content-Type", kind)),
                body=execute_query(GOOD).encode(),
            ),
            status=415,
            code=NAC,
        )
        for kind in ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8")
    ),
]  # fmt: skip


@each(ROWS)
def test_key_value_pairs(catalogue: World, row: Row) -> None:
    catalogue.hold(row)


def test_k20_a_line_break_in_a_value_makes_no_line_in_the_log(catalogue: World) -> None:
    before = len(catalogue.log.splitlines())
    catalogue.ask(kvp(execute_query(pairs(Image="a\r\nERROR forged"))))
    catalogue.ask(Ask(target=f"{WPS_PATH}%0d%0aERROR%20forged"))
    new = catalogue.log.splitlines()[before:]
    assert len(new) == 2
    assert not [line for line in new if line.startswith("ERROR")]

"""I, C, FP and Z: the three inputs, their sizes and characters, in both versions."""

from __future__ import annotations

from xml.sax.saxutils import escape

from storagehub_fixture import ALICE

from catalogue.asking import (
    FSE,
    IPV,
    ITEM,
    MISSING,
    NAC,
    WRONG_INPUT,
    Ask,
    Row,
    accepted,
    data,
    each,
    execute1,
    execute2,
    execute_query,
    in_both,
    kvp,
    literal,
    pairs,
    post,
)
from catalogue.world import World

HEX = "0123456789abcdef" * 4


def bad(
    name: str, given: str, *values: str, asks: bool = False, code2: str = WRONG_INPUT
) -> list[Row]:
    """Values that are refused alike as key-value pair and in both kinds of XML."""
    rows = []
    for number, value in enumerate(values):
        rows.append(
            Row(
                name=f"{name}-{number}-kvp",
                ask=kvp(execute_query(pairs(**{given: value}))),
                locator=given,
            )
        )
        rows += in_both(f"{name}-{number}", given, escape(value), code2=code2)
    return [
        Row(
            name=r.name,
            ask=r.ask,
            status=r.status,
            code=r.code,
            locator=r.locator,
            asks_storagehub=asks,
        )
        for r in rows
    ]


def taken(name: str, given: str, *values: str) -> list[Row]:
    """Values that are taken as they are; the file alone does not exist."""
    asks = [kvp(execute_query(pairs(**{given: value, "FileParam": MISSING}))) for value in values]
    asks += [
        post(
            execute1(
                **{given: literal(given, escape(value)), "FileParam": literal("FileParam", MISSING)}
            )
        )
        for value in values
    ]
    asks += [
        post(
            execute2(**{given: data(given, escape(value)), "FileParam": data("FileParam", MISSING)})
        )
        for value in values
    ]
    return accepted(name, *asks)


IMAGES = [
    *taken("I1", "Image", "alpine", "alpine:3.20", "library/alpine", "docker.io/alpine", "index.docker.io/library/alpine", "u/r:_x", "a__b/c", "a--b/c"),
    # In 2.0 the line's end is a serialiser's and goes before the image is looked at.
    *(row for row in bad("I4", "Image", "alpine\n", "alpine\r\n") if not row.name.endswith("2.0.0")),
    *(Row(name=f"I5-{n}", ask=kvp(execute_query(pairs(Image=value))), locator="Image") for n, value in enumerate(("a\0b", "a\x7f", "a\x1b[31m", "a\x08", "\x07"))),
    *bad("I7", "Image", "alpine:", ":tag", f"@sha256:{HEX}", "alpine@", "alpine:-x", "alpine:.x", f"alpine:{'t' * 129}", "a:b:c", f"alpine@sha256:{HEX[1:]}", f"alpine@sha256:{HEX.upper()}", f"alpine@sha512:{HEX}", f"a@sha256:{HEX}@sha256:{HEX}"),
    *bad("I8", "Image", HEX, f"sha256:{HEX}", "sha256", "sha512:x"),
    *bad("I10", "Image", "evil.com/x", "evil.com:5000/x", "ghcr.io/a/b", "quay.io/a/b", "docker.io.evil.com/x", "evil.com/docker.io/x", "registry-1.docker.io/a/b", "docker.io@evil.com/x", "docker.io:443/a/b", "DOCKER.IO/a/b"),
    # 2130706433/x is a repository that a user of Docker Hub may have; the job fails if nobody has it.
    *bad("I11", "Image", "localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "[::1]:5000/x", "169.254.169.254/x", "0x7f.1/x", "metadata.test/x", "links.test/x", "127.1/x", "localhost:80/a/b"),
    *bad("I13", "Image", "http://127.0.0.1:5000/x", "https://hub.docker.com/_/alpine", "docker://alpine", "oci://alpine", "file:///etc/passwd", "docker-archive:x.tar", "oci:/x", "dir:/etc", "https://169.254.169.254/latest"),
    *bad("I14", "Image", "../a", "a/../b", "a/./b", "a//b", "/a", "a/", "docker.io/../a", "a/b/c", "docker.io/a/b/c", "docker.io/", ".", "..", "-a", "_a", "a_", "a___b"),
    *bad("I16", "Image", "--privileged", "-v /:/host alpine", "alpine --privileged", "alpine -v=/:/x", "-"),
    *bad("I17", "Image", "{{.Node.ID}}", "alpine:{{.Task.ID}}", "$(id)", "`id`", ";id", "|id", "%s", "${jndi:ldap://x}", "a&b", "a'b", 'a"b', "a'; DROP TABLE jobs;--"),
    *bad("I19", "Image", "alpine%20", "alpine%00", "alpine?x=1", "alpine#x", "alpine\\x", "al pine", "Alpine", "a/B", "a..b", "a.-b"),
    *bad("I20", "Image", "scratch", "library/scratch", "docker.io/library/scratch", "scratch:latest"),
    *bad("I21", "Image", "a" * 256, "a/" + "b" * 300, "a" * 10_000),
]  # fmt: skip
COMMANDS = [
    *taken("C1", "CommandName", "run", "/app/run.sh", "python3 /app/main.py", "run --a=b:c,d@e%f", "../../bin/sh", "/proc/self/exe", "/dev/sda"),
    *bad("C2", "CommandName", " ", "   "),
    *bad("C4", "CommandName", "run;id", "run && id", "run | nc", "`id`", "$(id)", "run > /x", "*", "run &", "(id)", "run {a,b}", "!1", "~/x", "run #x"),
    *bad("C5", "CommandName", '"a b"', "'a b'", 'a "b', "run \\", "a\\ b"),
    *taken("C7-double", "CommandName", "run  x", "run    x   y"),
    # In 2.0 blanks at the ends are a serialiser's.
    *(row for row in bad("C7-ends", "CommandName", " run", "run ", "\trun") if not row.name.endswith("2.0.0")),
    *bad("C8", "CommandName", "run {{.Service.Name}}", "run ${TOKEN}", "run $1", "{{.Task.ID}}", "${jndi:ldap://127.0.0.1}"),
    *taken("C8-literal", "CommandName", "run %TOKEN%", "run %s%n"),
    *bad("C9", "CommandName", "-x", "--privileged", "=x", "@x", "run " + " ".join("a" * 40), ":"),
    *bad("C14", "CommandName", "run <token>", "<token>", "run <file-item-id>"),
    *bad("C15", "CommandName", "r\u00fcn", "run \u202ex", "run\u00a0x", "run\u3000x"),
]  # fmt: skip
FILES = [
    *bad("FP2", "FileParam", " ", "  "),
    *bad("FP2-words", "FileParam", "null", "undefined", "None", asks=True, code2="DataNotAccessible"),
    *bad("FP3", "FileParam", MISSING, asks=True, code2="DataNotAccessible"),
    *bad("FP5", "FileParam", "../x", "a/../b", "a/./b", "..", ".", "/../x", f"{ITEM}/..", f"../{ITEM}", "a//b"),
    *bad("FP5-names", "FileParam", "a/b", "?x", "#x", ";x", "x?y=z&a=b", "%2e%2e/x", asks=True, code2="DataNotAccessible"),
    # Names that an item of the workspace may have. What becomes a word of the command line is its id.
    *bad("FP6", "FileParam", "-rf", "--token", "-", asks=True, code2="DataNotAccessible"),
    *bad("FP7", "FileParam", "file:///etc/passwd", "FILE:/etc/passwd", "file://localhost/etc/passwd"),
    *bad("FP7-path", "FileParam", "/etc/passwd", "http:127.0.0.1", asks=True, code2="DataNotAccessible"),
    *bad("FP7-windows", "FileParam", r"C:\x", asks=True, code2="DataNotAccessible"),
    *bad("FP8", "FileParam",
        "http://169.254.169.254/", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://169.254.43518/",
        "http://[::ffff:169.254.169.254]/", "http://[::1]/", "http://127.0.0.1:8081/", "http://localhost/", "http://metadata.test/",
        "http://rebound.links.test/", "http://links.test@169.254.169.254/", "http://links.test:80@127.0.0.1/x", "http://links.test.evil/",
        "http://169.254.169.254#@links.test/", "http://169.254.169.254\\@links.test/", "http://links.test%2f@127.0.0.1/", "//169.254.169.254/x",
        "gopher://127.0.0.1:80/_x", "ftp://127.0.0.1/x", "http:/127.0.0.1/x", "http://127.1/", "http://0/", "http://①②⑦.0.0.1/",
        "http://links.test:22/", "https://user:pass@links.test/x", "http://LINKS.TEST./x", "http://links.test:@LINKS@/x"),
    # The form is right and so is the host: where it leads to is looked at, and followed to trusted hosts only.
    *bad("FP8-redirect", "FileParam", *(f"http://@LINKS@/a?to={to}" for to in (
        "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:8081/", "//169.254.169.254/x", "http://metadata.test/x", "http://rebound.links.test/",
        "http://links.test@127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:80/_x", "http://2852039166/", "https://links.test:443@127.0.0.1/",
    )), code2="DataNotAccessible", asks=True),
    *bad("FP9", "FileParam", "http://evil.test/workspace/items/12345678", "https://api.d4science.org.evil/workspace/items/12345678"),
    *bad("FP10", "FileParam", "a" * 10_000, "http://links.test/" + "a" * 10_000),
    *bad("FP10-names", "FileParam", f"{MISSING},{MISSING}", '["a"]', asks=True, code2="DataNotAccessible"),
    *bad("FP11", "FileParam", MISSING.replace("0", "A"), asks=True, code2="DataNotAccessible"),
]  # fmt: skip
LIMIT = 3 * 2**20
SIZES = [
    Row(name="Z1-over", ask=post("<a>" + "x" * LIMIT), status=413, code=FSE),
    Row(name="Z1-just-over", ask=post(b"x" * (LIMIT + 1)), status=413, code=FSE),
    Row(name="Z1-at-the-limit", ask=post(execute1(before="<!--" + "x" * (LIMIT - len(execute1()) - 200) + "-->", FileParam=literal("FileParam", MISSING))), locator="FileParam", asks_storagehub=True),
    Row(name="Z1-declared", ask=Ask(raw=b"POST /wps/WebProcessingService HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 1073741824\r\n\r\n<a/>xxxxxx"), status=413, code=FSE),
    *(Row(name=f"Z2-{given}", ask=post(execute1(**{given: literal(given, "a" * 2_900_000)})), status=413 if given == "CommandName" else 400, code=FSE if given == "CommandName" else IPV, locator=given) for given in ("Image", "CommandName", "FileParam")),
    *taken("Z4-just-short", "CommandName", "r" * 1024),
    *in_both("Z4-1025", "CommandName", "r" * 1025, status=413, code=FSE, code2="SizeExceeded"),
    *in_both("Z4-131072", "CommandName", "r" * 131_072, status=413, code=FSE, code2="SizeExceeded"),
    # 129 characters are a name of the workspace; 256 are none.
    *in_both("Z5", "FileParam", "a" * 2100),
    *accepted("Z7-BOM", post("\ufeff" + execute1(FileParam=literal("FileParam", MISSING)))),
    *(Row(name=f"Z8-{n}", ask=post(body), code=NAC) for n, body in enumerate((
        b'<?xml version="1.0" encoding="UTF-8"?>' + execute1(Image=literal("Image", "ü")).encode("latin-1"),
        execute1(Image=literal("Image", "ü")).encode("latin-1"), b'<?xml version="1.0" encoding="ISO-8859-1"?>' + execute1().encode("latin-1"),
        execute1().encode().replace(b"probe", b"pro\xc0\xafbe"), execute1().encode().replace(b"probe", b"pro\xed\xa0\x80be"),
    ))),
    *bad("Z10-Image", "Image", "a\u0301", "á", "a\u202eb", "a\u200bb", "\u0430lpine", "\uff41lpine", "a\u2024b", "🐳"),
    *bad("Z10-CommandName", "CommandName", "a\u0301", "a\u202eb", "a\u200bb", "\u0430", "\uff52un", "🐳"),
]  # fmt: skip


@each([*IMAGES, *COMMANDS, *FILES, *SIZES])
def test_inputs(catalogue: World, row: Row) -> None:
    catalogue.hold(row)


def test_fp3_anothers_item_answers_like_one_that_does_not_exist(catalogue: World) -> None:
    bobs = catalogue.quick.hub.seed("bob.test", "bobs.txt", b"private")
    catalogue.untouched = catalogue.left()
    answers = [
        catalogue.hold(Row(name="FP3", ask=kvp(execute_query(pairs(FileParam=item))), locator="FileParam", asks_storagehub=True))
        for item in (bobs, MISSING)
    ]  # fmt: skip
    assert answers[0].body == answers[1].body


def test_t_a_token_among_the_inputs_is_refused_and_not_repeated(catalogue: World) -> None:
    ask = kvp(execute_query(pairs(CommandName=f"run {ALICE.token}")))
    answer = catalogue.ask(ask)
    assert (answer.status, *answer.exception) == (400, IPV, "CommandName")
    assert ALICE.token not in answer.text
    catalogue.hold_untouched()

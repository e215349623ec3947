"""R: ids, jobs and results; T: tokens; J: what is asked as JSON."""

from __future__ import annotations

import base64
import uuid

import pytest
from storagehub_fixture import ALICE, BOB
from wps2_fixture import about_job

from catalogue.asking import (
    IPV,
    MISSING,
    MPV,
    NAC,
    ONS,
    WRONG,
    Ask,
    Row,
    each,
    execute1,
    execute2,
    execute_query,
    kvp,
    pairs,
    post,
)
from catalogue.world import World
from die_algorithm.web import CANCEL_PATH, JOBS_PATH, STATUS_PATH, WPS_PATH

MINE = (("gcube-token", ALICE.token),)
IDS = (
    MISSING, "../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cx", "a/b", "*", "%25", "a" * 10_000, "%27OR%271%27=%271",
    "{@JOB@}", "@JOB@.", "@JOB@%0a", "@JOB@%00", "%20@JOB@", "@JOB@/../@JOB@", "-1", "0", "null", "@JOB@;x", "%F0%9F%90%B3",
)  # fmt: skip


def gone(name: str, target: str, asks: bool = False) -> Row:
    return Row(name=name, ask=Ask(target=target), status=404, code=NAC, asks_storagehub=asks)


ROWS = [
    *(gone(f"R1-R13-status-{n}", f"{STATUS_PATH}?id={each}", asks=True) for n, each in enumerate(IDS)),
    *(gone(f"R1-R13-cancel-{n}", f"{CANCEL_PATH}?id={each}", asks=True) for n, each in enumerate(IDS)),
    *(Row(name=f"R1-{operation}-{n}", ask=kvp(f"service=WPS&version=2.0.0&request={operation}&JobID={job}"), status=404, code="NoSuchJob", locator=job, asks_storagehub=True)
      for operation in ("GetStatus", "GetResult", "Dismiss") for n, job in enumerate((MISSING, "a/b", "../x", "*"))),
    *(Row(name=f"R1-xml-{operation}", ask=post(about_job(operation, MISSING)), status=404, code="NoSuchJob", locator=MISSING, asks_storagehub=True)
      for operation in ("GetStatus", "GetResult", "Dismiss")),
    # Without an id nothing is asked for, which is another mistake than a wrong one.
    Row(name="R2-empty", ask=Ask(target=f"{STATUS_PATH}?id="), status=404, code=NAC, asks_storagehub=True),
    Row(name="R2-none", ask=Ask(target=STATUS_PATH), code=MPV, locator="id"),
    *(gone(f"R2-result-{n}", f"/results/{path}") for n, path in enumerate((
        "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "..%5c..%5cx", "", "*", f"{'0' * 32}/die-{MISSING}.zip",
        f"{'0' * 32}/../../jobs.sqlite", f"{'0' * 32}/..%2f..%2ftoken.key", f"../token.key/die-{MISSING}.zip", f"../die-{MISSING}.zip", "a" * 10_000,
        f"{'0' * 32}/die-{MISSING}.zip%00.html", f"%00/die-{MISSING}.zip", f"{'0' * 32}/die-{MISSING}/../../x", f"{'0' * 32}/die-@JOB@.zip",
    ))),
    gone("R2-beside", "@ZIP@/../../../token.key"), gone("R2-upper", "@ZIP@".replace("results", "RESULTS") + "x"),
    Row(name="R4-status", ask=Ask(target=f"{STATUS_PATH}?id=@JOB@", headers=(("gcube-token", BOB.token),)), status=404, code=NAC, asks_storagehub=True),
    Row(name="R7-failed", ask=kvp("service=WPS&version=2.0.0&request=GetResult&JobID=@FAILED@"), status=400, code=NAC),
    Row(name="R10-range", ask=Ask(target="@ZIP@", headers=(("Range", "bytes=0-0"),)), status=206, code=None),
    Row(name="R10-range-impossible", ask=Ask(target="@ZIP@", headers=(("Range", "bytes=999999-"),)), status=416, code=NAC),
    Row(name="R10-range-backwards", ask=Ask(target="@ZIP@", headers=(("Range", "bytes=5-2"),)), status=416, code=NAC),
    # Several ranges, or what is none, are passed over (RFC 9110, 14.2).
    *(Row(name=f"R10-no-range-{n}", ask=Ask(target="@ZIP@", headers=(("Range", value),)), status=200, code=None) for n, value in enumerate(("bytes=" + "0-," * 1000, "bytes=0-1,3-4", "lines=1-2", "bytes=x"))),
    Row(name="R10-range-of-more", ask=Ask(target="@ZIP@", headers=(("Range", "bytes=-999999"),)), status=200, code=None),
    *(Row(name=f"R11-no-date-{name}", ask=Ask(target="@ZIP@", headers=((name, "Tue, 01 Jan 99999999999 00:00:00 GMT"), ("Range", "bytes=0-0"))), status=status, code=None)
      for name, status in (("If-Modified-Since", 206), ("If-Range", 200))),
    Row(name="R2-two", ask=Ask(target=f"{STATUS_PATH}?id=@JOB@&id={MISSING}"), code=IPV, locator="id"),
    Row(name="R11-modified", ask=Ask(target="@ZIP@", headers=(("If-Modified-Since", "Tue, 01 Jan 2099 00:00:00 GMT"),)), status=304, code=None),
    Row(name="R11-etag", ask=Ask(target="@ZIP@", headers=(("If-None-Match", '"x"'),)), status=200, code=None),
    Row(name="R11-star", ask=Ask(target="@ZIP@", headers=(("If-None-Match", "*"),)), status=304, code=None),
    *(Row(name=f"R11-match-{status}-{n}", ask=Ask(target="@ZIP@", headers=(header, *more)), status=206 if more and status == 200 else status, code=None if status == 200 else NAC)
      for status, header in ((200, ("If-Match", "*")), (412, ("If-Match", '"x"')), (412, ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")))
      for n, more in enumerate(((), (("Range", "bytes=0-0"),)))),
    Row(name="R10-head", ask=Ask(method="HEAD", target="@ZIP@"), status=200, code=None),
]  # fmt: skip


def token(name: str, *headers: tuple[str, str], asks: bool = False, query: str = "") -> Row:
    ask = kvp(execute_query(pairs()) + query, *headers, token=None)
    return Row(name=name, ask=ask, status=401, code=NAC, asks_storagehub=asks)


def basic(text: str) -> tuple[str, str]:
    return "Authorization", f"Basic {base64.b64encode(text.encode()).decode()}"


TOKENS = [
    token("T1-none"),
    *(Row(name=f"T1-xml-{n}", ask=post(body, token=None), status=401, code=NAC) for n, body in enumerate((execute1(), execute2()))),
    # The row asks for 400 where a Bearer is no token. RFC 6750, 3.1 leaves no reason to tell a broken token from
    # none to who has none: all of these carry nothing that could be one, and are told how to send one.
    *(token(f"T2-{n}", ("Authorization", value)) for n, value in enumerate(("Bearer", "Bearer ", "Basic x", "Basic", "Bearer a b", "Digest x", "Negotiate x", "Bearer\t", "bearer x"))),
    token("T2-basic-nobody", basic("alice:wrong-password"), asks=True),
    token("T2-basic-empty", basic(":")),
    token("T2-basic-no-ascii", ("Authorization", "Basic \u00e9")),
    token("T2-basic-other", basic(f"{BOB.name}:{ALICE.token}"), asks=True),
    *(token(f"T5-{n}", ("gcube-token", value)) for n, value in enumerate((
        "tiny", "-rf-rf-rf-rf", "--privileged-0000", "a b c d e f g", "t\u00f6ken-token-token", "a" * 8193, "token;token;token", "token{{.}}token", "$(id)$(id)$(id)", "<a>token</a>"))),
    *(token(f"T5-query-{n}", query=f"&gcube-token={value}") for n, value in enumerate(("%0atoken-token", "%00token-token", "to%0d%0aken-token", "-token-token", "%F0%9F%90%B3token-token"))),
    token("T5-path", ("gcube-token", "../../../../x"), asks=True),
    # StorageHub is the judge of what is well-formed, before anything is accepted.
    token("T7-unknown", ("gcube-token", WRONG), asks=True),
    token("T7-query", query=f"&gcube-token={WRONG}", asks=True),
    token("T8-alg-none", ("Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZS50ZXN0In0."), asks=True),
    token("T8-jwt", ("Authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZS50ZXN0IiwiZXhwIjoxfQ.c2ln"), asks=True),
    *(Row(name=f"T3-two-{n}", ask=Ask(target=f"{path}&gcube-token={ALICE.token}&GCUBE-token={BOB.token}", headers=()), code=IPV, locator="gcube-token")
      for n, path in enumerate((f"{WPS_PATH}?{execute_query(pairs())}", f"{STATUS_PATH}?id=@JOB@", f"{CANCEL_PATH}?id=@JOB@"))),
    token("T4-access_token", query=f"&access_token={ALICE.token}"),
    token("T13-cookie", ("Cookie", f"gcube-token={ALICE.token}; Authorization=Bearer {ALICE.token}")),
    token("T13-origin", ("Cookie", f"gcube-token={ALICE.token}"), ("Origin", "https://evil.test"), ("Referer", "https://evil.test/")),
    Row(name="T13-preflight", ask=Ask(method="OPTIONS", headers=(("Origin", "https://evil.test"), ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "gcube-token"))), status=405, code=NAC),
    # Without a token everybody may ask what there is.
    *(Row(name=f"T1-open-{n}", ask=kvp(query, token=None), status=200, code=None) for n, query in enumerate((
        "service=WPS&request=GetCapabilities", "service=WPS&version=2.0.0&request=GetCapabilities", "service=WPS&version=1.0.0&request=DescribeProcess&Identifier=ALL", "service=WPS&version=2.0.0&request=DescribeProcess&Identifier=ALL"))),
    *(Row(name=f"T10-{path[5:11]}", ask=Ask(target=f"{path}?id=@JOB@", headers=(("gcube-token", BOB.token),)), status=404, code=NAC, asks_storagehub=True) for path in (STATUS_PATH, CANCEL_PATH)),
    *(Row(name=f"T10-none-{path[5:11]}", ask=Ask(target=f"{path}?id=@JOB@", headers=()), status=401, code=NAC) for path in (STATUS_PATH, CANCEL_PATH)),
]  # fmt: skip


def json_row(
    name: str, body: str, target: str = WPS_PATH, status: int = 415, kind: str = "application/json"
) -> Row:
    ask = Ask(
        method="POST",
        target=target,
        headers=(*MINE, ("Content-Type", kind)),
        body=body.encode("utf-8", "surrogatepass"),
    )
    return Row(name=name, ask=ask, status=status, code=NAC)


# There is no OGC API here, so JSON is a type of body that is not read, whatever is in it, and the paths of
# that API lead nowhere. The one JSON that is answered, the list of jobs, takes no body.
JSON = [
    *(json_row(f"J1-{n}", body) for n, body in enumerate(("[]", "1", "null", "", "{", "{}", '"x"'))),
    *(json_row(f"J2-{n}", f'{{"inputs": {value}}}') for n, value in enumerate(("null", "[]", "{}", '{"Image": {"href": "file:///etc/passwd"}}', '{"Image": {"href": "http://169.254.169.254/"}}'))),
    *(json_row(f"J4-{n}", f'{{"inputs": {{"Image": {value}}}}}') for n, value in enumerate(("NaN", "Infinity", "1e999", "1" * 10_000))),
    json_row("J5", '{"inputs": {}, "inputs": {}}'), json_row("J7", '{"inputs": "\\ud800\\u0000"}'), json_row("J7-raw", '"\ud800"'),
    json_row("J1-deep", "[" * 100_000), json_row("J1-problem", "{}", kind="application/problem+json"),
    *(json_row(f"J8-{n}", "{}", path, 404) for n, path in enumerate(("/processes/nix/execution", "/processes/nix", "/processes", "/ogcapi/processes", "/api"))),
    *(Row(name=f"J10-{n}", ask=Ask(target=path), status=404, code=NAC) for n, path in enumerate((f"/jobs/{MISSING}/results", f"/jobs/{MISSING}", "/jobs/@JOB@", "/jobs/../jobs/x", "/conformance", "/openapi"))),
    # A preference that is not known is passed over (RFC 7240, 2).
    *(Row(name=f"J11-{n}", ask=kvp(execute_query(pairs(FileParam=MISSING)), ("Prefer", value)), locator="FileParam", asks_storagehub=True) for n, value in enumerate(("respond-async;wait=999999", ";;;", "x" * 5000))),
    json_row("J13", '{"subscriber": {"successUri": "http://169.254.169.254/"}}'),
    *(Row(name=f"J14-limit-{n}", ask=Ask(target=f"{JOBS_PATH}?limit={value}"), locator="limit") for n, value in enumerate(("-1", "0", "1e9", "1001", "x", "%00", "1&limit=2", "", "9" * 5000, "%D9%A3", "1.0", "+1", "%201"))),
    # What is unknown in a query is passed over, as everywhere here (OWS Common).
    Row(name="J14-unknown", ask=Ask(target=f"{JOBS_PATH}?f=exe&foo=bar"), status=200, code=None, asks_storagehub=True),
    Row(name="J14-method", ask=Ask(method="DELETE", target=JOBS_PATH), status=405, code=NAC),
    Row(name="J14-nobody", ask=Ask(target=JOBS_PATH, headers=()), status=401, code=NAC),
    json_row("J16", '{"inputs": {"__proto__": 1, "constructor": 1}}'),
    *(Row(name=f"J16-kvp-{name}", ask=kvp(execute_query(f"{pairs()};{name}=1")), code=IPV, locator=name) for name in ("__proto__", "constructor")),
    Row(name="J1-ons", ask=kvp("service=WPS&request=GetJobs"), status=501, code=ONS, locator="GetJobs"),
]  # fmt: skip


INVALID = 'error="invalid_token"'


@each([*ROWS, *TOKENS, *JSON])
def test_jobs_tokens_and_json(catalogue: World, row: Row) -> None:
    # What StorageHub has said of a token is remembered for a minute, so it may not be asked.
    answer = catalogue.hold(row)
    if answer.status == 401:
        # A reason is told to those alone who have sent a token (RFC 6750, 3.1).
        challenge, _, reason = answer.headers["WWW-Authenticate"].partition(", ")
        assert challenge == 'Bearer realm="Docker Image Executor"'
        assert reason in ("", INVALID)
        if row.name.startswith(("T1-", "T5-", "T7-", "T8-")):
            assert reason == ("" if row.name.startswith("T1-") else INVALID)


def test_t4_a_token_in_a_query_is_not_logged(catalogue: World) -> None:
    """In the address that clients of the DataMiner use, and in that which RFC 6750 knows."""
    before = len(catalogue.log)
    for name in ("gcube-token", "access_token"):
        target = f"{STATUS_PATH}?id={MISSING}&{name}={ALICE.token}"
        assert catalogue.ask(Ask(target=target, headers=MINE)).status == 404
        assert catalogue.ask(Ask(target=target.replace("?", "%3F"), headers=MINE)).status == 404
    log = catalogue.log[before:]
    assert log.count(STATUS_PATH) == 4
    assert ALICE.token[:12] not in log


def test_r11_a_result_that_is_known_is_not_sent_again(catalogue: World) -> None:
    tag = catalogue.ask(Ask(target="@ZIP@")).headers["ETag"]
    for value in (tag, f'"x", {tag}', f"W/{tag}"):
        answer = catalogue.ask(Ask(target="@ZIP@", headers=(("If-None-Match", value),)))
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == tag


def test_r1_all_that_is_not_found_reads_alike(catalogue: World) -> None:
    targets = [f"{STATUS_PATH}?id={each}" for each in IDS]
    bodies = {catalogue.ask(Ask(target=target)).body for target in targets}
    bobs = Ask(target=f"{STATUS_PATH}?id=@JOB@", headers=(("gcube-token", BOB.token),))
    assert bodies | {catalogue.ask(bobs).body} == bodies
    assert len(bodies) == 1


def test_r5_an_id_is_random_and_none_of_its_neighbours_is_a_job(catalogue: World) -> None:
    own = uuid.UUID(catalogue.succeeded)
    assert own.version == 4
    for step in (*range(-20, 0), *range(1, 21)):
        # In the place of a clock in ids of version 1, and at the end.
        for at in (96, 0):
            other = uuid.UUID(int=own.int + (step << at))
            assert catalogue.ask(Ask(target=f"{STATUS_PATH}?id={other}")).status in (404, 429)


def test_r13_an_id_in_capitals_is_another(catalogue: World) -> None:
    upper = catalogue.succeeded.upper()
    assert upper != catalogue.succeeded
    assert catalogue.ask(Ask(target=f"{STATUS_PATH}?id={upper}")).status == 404


def test_results_are_saved_and_never_shown_as_pages(catalogue: World) -> None:
    answer = catalogue.ask(Ask(target="@ZIP@", headers=()))
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"] == "application/zip"
    log = catalogue.ask(Ask(target="@LOG@", headers=()))
    assert (log.status, log.headers.get_content_type()) == (200, "text/plain")
    for each_answer in (answer, log):
        assert "sandbox" in each_answer.headers["Content-Security-Policy"]
        assert each_answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("target", ["@ZIP@", f"{STATUS_PATH}?id=@JOB@", "@LOG@"])
def test_nobody_keeps_an_answer_to_a_token(catalogue: World, target: str) -> None:
    joint = "&" if "?" in target else "?"
    for ask in (
        Ask(target=target),
        Ask(target=f"{target}{joint}gcube-token={ALICE.token}", headers=()),
    ):
        answer = catalogue.ask(ask)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"

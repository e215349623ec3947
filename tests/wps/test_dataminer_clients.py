"""DataMiner's clients, played literally over HTTP: a compatible implementation must serve them all.

The points of the checklist at the end of the reference (dataminer-wps), and where each is held:

== ===========================================================================================
1  test_the_portal_finds_the_operator; inputs by both names: test_the_portal_starts_…
2  test_the_wikis_request…, test_the_portals_own_request…; the rules: unit/test_wps_kvp
3  wps/test_owner_checks, wps/test_execute (all four places); unit/test_credentials (the order)
4  test_nothing_shows_the_token; unit/test_documents, unit/test_credentials (redaction)
5  test_the_portal_finds_the_operator; unit/test_capabilities
6  test_the_portal_makes_its_form; unit/test_capabilities
7  test_the_portal_starts_…, test_the_template_client_…
8  test_the_template_client_… (appended), the portal (Basic), test_client_tokens (header)
9  test_the_portlet_…; a client that waits: wps/test_queue, wps/test_hold_ups
10 test_what_the_portal_is_shown_…; unit/test_documents
11 test_the_portal_shows_why_…; wps/test_failures (each reason)
12 test_the_portal_cancels…; wps/test_failures, wps/test_hold_ups
13 test_the_portal_lists_log_and_zip, test_the_template_client_…; unit/test_documents
14 test_the_zip_is_a_proper_output…; wps/test_execute, wps/test_clients
15 test_galaxy_…
16 test_the_portals_own_request…; unit/test_wps_kvp
17 test_the_item_is_found_by_id_and_by_address; unit/test_job_request, wps/test_file_parameter
18 contract/test_storagehub (names), contract/test_storagehub_faults (ids), wps/test_idempotency
19 unit/test_service_spec, wps/test_execute (four words)
20 unit/test_states, wps/test_failures, wps/test_retention
21 test_an_image_that_writes_nothing_…; wps/test_failures (what it wrote is kept)
22 unit/test_archive, contract/test_storagehub (the zip), wps/test_execute (nothing is left)
23 wps/test_saved_results
24 contract/test_storagehub_faults
25 contract/test_storagehub (each way of the token), unit/test_settings
26 contract/test_local_storagehub_changes, contract/test_local_storagehub_sortapp
== ===========================================================================================
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from lxml import etree
from ogc import assert_valid, texts
from portal import Operator, Phase, Portal, PortalError, Shown
from quick_fixture import Quick, quick_world, soon
from script_clients import RClient, TemplateClient, plain_open, portlet_result
from service_fixture import Service, elements, status_path, text_of
from storagehub_fixture import ALICE, BOB

from die_algorithm.description import IDENTIFIER, NON_DETERMINISTIC, RESULT
from die_algorithm.web import WPS_PATH

IMAGE = "d4science/sortapp"
WRITES = "probe write a.txt a"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A service that runs jobs at once, and alice before it."""

    world: Quick
    service: Service
    portal: Portal

    @property
    def item(self) -> str:
        """The id of her file."""
        return self.world.item

    @property
    def item_address(self) -> str:
        """Its address in StorageHub."""
        return f"{self.world.hub.base_url}/items/{self.item}"

    def values(self, command: str) -> dict[str, Any]:
        """What she gives the process, the file by its id."""
        return {"Image": IMAGE, "CommandName": command, "FileParam": self.item}

    def start(self, command: str) -> tuple[str, str]:
        """Start a job in the portal; its id and status address."""
        values = {**self.values(command), "FileParam": self.item_address}
        return self.portal.start(IDENTIFIER, values)

    def follow(self, location: str) -> list[Shown]:
        """All that the portal shows of a job, to its end."""
        shown = [self.portal.look(location)]
        while shown[-1].phase in (Phase.ACCEPTED, Phase.RUNNING):
            time.sleep(0.03)
            shown.append(self.portal.look(location))
        return shown


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with quick_world(tmp_path_factory.mktemp("world")) as world, world.service() as service:
        # As it stands in gCube's registry, with the port.
        portal = Portal(service.wps, ALICE.name, ALICE.token)
        portal.operators()
        yield Stage(world, service, portal)
        portal.close()


@dataclasses.dataclass(frozen=True)
class Computation:
    """A job that the portal has started and seen to its end."""

    job_id: str
    location: str
    shown: list[Shown]


@pytest.fixture(scope="module")
def computation(stage: Stage) -> Computation:
    job_id, location = stage.start("probe write-slowly a.txt 60")
    first = stage.portal.look(location)
    running = soon(lambda: s if (s := stage.portal.look(location)).phase is Phase.RUNNING else None)
    soon(stage.world.engine.alive)
    stage.world.engine.let_end(job_id)
    return Computation(job_id, location, [first, running, *stage.follow(location)])


# -- the portal (reference: dataminer-wps, 2.3)


def test_the_portal_finds_the_operator_in_its_category(stage: Stage) -> None:
    """Points 1 and 5: a Post of every operation, and the category before the colon."""
    assert stage.portal.operators() == [Operator(IDENTIFIER, "Docker Swarm D4science")]
    assert IDENTIFIER == (
        "org.gcube.dataanalysis.wps.statisticalmanager.synchserver.mappedclasses.transducerers."
        "DOCKER_IMAGE_EXECUTOR"
    )


def test_the_portal_makes_its_form_from_the_lines_it_keeps(stage: Stage) -> None:
    """Point 6."""
    described = stage.portal.describe(IDENTIFIER)
    assert described.title == "Docker Image Executor"
    assert described.abstract.strip()
    assert [(each.name, each.widget) for each in described.parameters] == [
        ("Image", "text"),
        ("CommandName", "text"),
        ("FileParam", "file"),
        ("ItemParam", "text"),
    ]
    # The library sends what the description says back as the literal's type.
    types = {each.data_type for each in described.parameters if each.widget == "text"}
    assert types == {"http://www.w3.org/TR/xmlschema-2/#string"}
    assert described.outputs == (NON_DETERMINISTIC, RESULT)


def test_the_portal_starts_a_computation_by_either_name_of_the_file(
    stage: Stage, computation: Computation
) -> None:
    """Points 1 and 7: the id is all that follows the last ``?id=``."""
    assert computation.location.endswith(f"/wps/RetrieveResultServlet?id={computation.job_id}")
    assert stage.service.runtime.engine.job(computation.job_id).owner == ALICE.name
    values = {"Image": IMAGE, "CommandName": "probe noop", "ItemParam": stage.item}
    _, location = stage.portal.start(IDENTIFIER, values)
    assert stage.follow(location)[-1].phase is Phase.COMPLETE


def test_the_portal_has_its_id_while_the_program_runs(stage: Stage) -> None:
    """Point 7: an asynchronous Execute is answered at once, however long the program takes."""
    job_id, location = stage.start("probe forever")
    soon(lambda: [start.job_id for start in stage.world.engine.alive()] == [job_id])
    assert stage.portal.look(location).phase is Phase.RUNNING
    assert stage.portal.cancel(job_id) == 200
    soon(lambda: not stage.world.engine.alive())


def test_what_the_portal_is_shown_leads_from_accepted_to_complete(computation: Computation) -> None:
    """Point 10: in this order, no text empty or a number, and none that alarms."""
    order = [Phase.ACCEPTED, Phase.RUNNING, Phase.COMPLETE]
    places = [order.index(each.phase) for each in computation.shown]
    assert places == sorted(places)
    assert computation.shown[-1].phase is Phase.COMPLETE
    running = [each for each in computation.shown if each.phase is Phase.RUNNING]
    percents = [each.percent for each in running]
    assert percents == sorted(percents)
    assert running
    assert all(0 < percent < 100 for percent in percents)
    for each in computation.shown:
        assert each.text.strip()
        assert "Exception" not in each.text


def test_the_portal_lists_log_and_zip(stage: Stage, computation: Computation) -> None:
    """Point 13: every output has data inline, and the list is found by literal node names."""
    results = stage.portal.results(computation.location)
    assert list(results) == [NON_DETERMINISTIC, RESULT]
    log, archive = results[NON_DETERMINISTIC]
    assert (log.fid, log.description, log.mime_type) == (
        "F0",
        "Log of the computation",
        "text/plain",
    )
    assert (archive.fid, archive.mime_type) == ("F1", "application/zip")
    assert results[RESULT] == []
    assert plain_open(archive.data).startswith(b"PK")
    assert plain_open(log.data) is not None
    answer = requests.get(archive.data, headers={"gcube-token": ALICE.token}, timeout=30)
    assert answer.content.startswith(b"PK")
    # Shown as a file to download, for its address begins so and it is no picture.
    assert archive.data.startswith(("http:", "https:"))


def test_the_portal_shows_why_a_computation_failed(stage: Stage) -> None:
    """Point 11."""
    _, location = stage.start("probe exit 3")
    failed = stage.follow(location)[-1]
    assert failed.phase is Phase.FAILED
    assert "Fault class: USER. Exit code: 3." in failed.text
    assert stage.portal.results(location) == {}


def test_the_portal_cancels_a_computation(stage: Stage) -> None:
    """Point 12."""
    job_id, location = stage.start("probe forever")
    soon(lambda: stage.portal.look(location).phase is Phase.RUNNING)
    assert stage.portal.cancel(job_id) == 200
    ended = stage.follow(location)[-1]
    assert (ended.phase, ended.text.strip()) == (Phase.FAILED, "Computation cancelled.")
    soon(lambda: f"die-{job_id}" not in stage.world.folders())
    assert job_id not in {service.job_id for service in stage.world.engine.services()}
    # An ended one is not ended again, and is none of another's.
    assert stage.portal.cancel(job_id) == 200
    other = Portal(stage.service.wps, BOB.name, BOB.token)
    assert other.cancel(job_id) == 404
    assert other.look(location) == Shown(Phase.FAILED, "HTTP 404")
    other.close()


def test_the_portal_is_refused_without_a_token_that_counts(stage: Stage) -> None:
    stranger = Portal(stage.service.wps, ALICE.name, "00000000-0000-4000-8000-000000000000")
    stranger.operators()  # what is offered is shown to everybody
    with pytest.raises(PortalError, match="HTTP 401"):
        stranger.start(IDENTIFIER, {**stage.values(WRITES), "FileParam": stage.item_address})
    stranger.close()


def test_the_portals_own_request_can_be_pasted(stage: Stage) -> None:
    """W2, points 2 and 16: what the link "WPS Request: Show" yields, a plain GET that waits."""
    command = stage.portal.request_to_show(
        IDENTIFIER, {**stage.values(WRITES), "FileParam": stage.item_address}
    )
    assert "FileParam=http%3A%2F%2F" in command
    document = assert_valid(plain_open(command))
    assert elements(document, "//wps:ProcessSucceeded")
    assert len(texts(document, "//ogr:Result")) == 2
    # As a computation it is the same, and the address may end in "&".
    again = stage.portal.request_to_show(IDENTIFIER, stage.values("probe noop"))
    assert elements(assert_valid(plain_open(f"{again}&")), "//wps:ProcessSucceeded")


# -- scripts


def test_the_template_client_finds_log_and_zip_by_their_words(stage: Stage) -> None:
    """W3, points 7, 8 and 13: it cuts out the status address, appends the token, looks for words."""
    found = TemplateClient(stage.service.wps, ALICE.token).run(
        IDENTIFIER, stage.values("probe write-slowly a.txt 1")
    )
    address, _, job_id = found.status_location.partition("?id=")
    assert address == f"{stage.service.settings.url}/wps/RetrieveResultServlet"
    assert len(found.polls) > 1
    assert plain_open(found.log) is not None
    assert plain_open(found.result).startswith(b"PK")
    assert f"die-{job_id}" in found.result
    # lineage="true": what was given is repeated, and no token with it.
    assert f"<wps:LiteralData>{stage.item}</wps:LiteralData>" in found.polls[0]
    assert not any(ALICE.token in each for each in found.polls)


def test_the_template_client_ends_when_the_job_fails(stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="Process failed"):
        TemplateClient(stage.service.wps, ALICE.token).run(IDENTIFIER, stage.values("probe exit 1"))


def test_the_portlet_without_namespaces_takes_the_second_result(stage: Stage) -> None:
    """W5, point 9: one GET that waits, with odd headers."""
    url = stage.service.execute_url(ALICE.token, **stage.values(WRITES))
    assert plain_open(portlet_result(url)).startswith(b"PK")


def test_the_wikis_request_runs_with_keys_of_any_case_and_others_among_them(stage: Stage) -> None:
    """W1, point 2: ``;`` at the end, ``lang`` and the token among the keys, nothing encoded."""
    inputs = ";".join(f"{name}={value}" for name, value in stage.values("probe noop").items())
    url = (
        f"{stage.service.wps}?request=Execute&service=WPS&Version=1.0.0&gcube-token={ALICE.token}"
        f"&lang=en-US&Identifier={IDENTIFIER}&DataInputs={inputs};"
    ).replace(" ", "%20")
    document = assert_valid(plain_open(url))
    assert elements(document, "//wps:ProcessSucceeded")
    # Synchronous: nothing is stored, so there is nothing to poll.
    assert document.get("statusLocation") is None
    for query in (
        f"Request=GetCapabilities&Service=WPS&gcube-token={ALICE.token}",
        f"Request=DescribeProcess&Service=WPS&Version=1.0.0&gcube-token={ALICE.token}"
        f"&Identifier={IDENTIFIER}",
    ):
        answer = assert_valid(plain_open(f"{stage.service.wps}?{query}"))
        assert IDENTIFIER in texts(answer, "//ows:Identifier")


def test_the_replies_have_the_originals_shape(stage: Stage, computation: Computation) -> None:
    """R1: the attributes of the root, the last of them the status address, and one element a line."""
    text = stage.service.get(status_path(computation.job_id)).text
    (line,) = [line for line in text.splitlines() if "<wps:ExecuteResponse" in line]
    assert line.startswith('<wps:ExecuteResponse xmlns:wps="http://www.opengis.net/wps/1.0.0"')
    assert line.endswith(f' statusLocation="{computation.location}">')
    for attribute in ('service="WPS"', 'version="1.0.0"', 'xml:lang="en-US"', "serviceInstance="):
        assert attribute in line
    process = '<wps:Process wps:processVersion="'
    assert process in text
    assert f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>" in text
    assert "<ows:Title>Docker Image Executor</ows:Title>" in text
    assert "CDATA" not in text


@pytest.mark.parametrize(
    "headers",
    [
        RClient.basic(ALICE.name, ALICE.token),
        {"Authorization": f"Bearer {ALICE.token}"},
        {"gcube-token": ALICE.token},
    ],
    ids=["basic", "bearer", "custom"],
)
def test_r_runs_the_process_with_each_kind_of_authentication(
    stage: Stage, headers: dict[str, str]
) -> None:
    """R's ows4R, which takes the first output described when none is named."""
    client = RClient(stage.service.wps, headers)
    assert client.processes == [IDENTIFIER]
    document = client.execute(IDENTIFIER, stage.values(WRITES))
    assert texts(document, "//wps:Output/ows:Identifier") == [NON_DETERMINISTIC]
    assert plain_open(texts(document, "//d4science:Data")[-1]).startswith(b"PK")


def test_r_is_told_what_is_wrong(stage: Stage) -> None:
    client = RClient(stage.service.wps, {"gcube-token": ALICE.token})
    with pytest.raises(RuntimeError, match="Exit code: 3"):
        client.execute(IDENTIFIER, stage.values("probe exit 3"))
    with pytest.raises(RuntimeError, match="image"):
        client.execute(IDENTIFIER, {**stage.values(WRITES), "Image": "evil.com/x"})


@pytest.fixture(scope="module")
def finished(stage: Stage) -> dict[str, str]:
    """The headers with which any Execute is the same finished job, so that only its form differs."""
    headers = {
        "gcube-token": ALICE.token,
        "Idempotency-Key": "5a0f8a0e-9a6b-4b43-8d0e-0c2f8a1f7c11",
    }
    answer = stage.service.get(kvp(stage), headers=headers)
    assert "ProcessSucceeded" in answer.text
    return headers


def kvp(stage: Stage, **form: str) -> str:
    """An Execute in key-value pairs as libraries write it: each value encoded once more."""
    return f"{stage.service.execute_url(None, **stage.values(WRITES))}&{urlencode(form)}"


@pytest.mark.parametrize("attribute", ["@asReference=true", "=@asReference=true"])
def test_galaxy_gets_the_xml_by_reference(
    stage: Stage, finished: dict[str, str], attribute: str
) -> None:
    """Point 15; the reference is opened without any header."""
    url = kvp(stage, ResponseDocument=NON_DETERMINISTIC + attribute)
    answer = stage.service.get(url, headers=finished)
    document = etree.fromstring(answer.content)
    (reference,) = elements(document, "//wps:Output/wps:Reference")
    assert reference.get("mimeType") == "text/xml"
    collection = etree.fromstring(plain_open(str(reference.get("href"))))
    assert plain_open(texts(collection, "//d4science:Data")[-1]).startswith(b"PK")


@pytest.mark.parametrize(
    "form",
    [
        f"{RESULT}@asReference=true",
        f"{RESULT}@asReference=true@mimeType=application/zip",
        f"{NON_DETERMINISTIC};{RESULT}@asreference=true",
    ],
)
def test_qgis_gets_the_zip_by_reference(stage: Stage, finished: dict[str, str], form: str) -> None:
    answer = stage.service.get(kvp(stage, ResponseDocument=form), headers=finished)
    document = etree.fromstring(answer.content)
    (reference,) = elements(document, "//wps:Output/wps:Reference")
    assert plain_open(str(reference.get("href"))).startswith(b"PK")


def test_the_zip_is_a_proper_output_of_its_own(stage: Stage, finished: dict[str, str]) -> None:
    """Point 14: bare, inline and by reference; what the portal gets has no reference only."""
    bare = stage.service.get(kvp(stage, RawDataOutput=RESULT), headers=finished)
    assert bare.headers["Content-Type"] == "application/zip"
    assert bare.content.startswith(b"PK")
    inline = stage.service.get(kvp(stage, ResponseDocument=RESULT), headers=finished)
    data = text_of(etree.fromstring(inline.content), "//wps:ComplexData[@encoding='base64']")
    assert data.startswith("UEsD")
    xml = stage.service.get(kvp(stage, RawDataOutput=NON_DETERMINISTIC), headers=finished)
    assert etree.fromstring(xml.content).tag.endswith("FeatureCollection")


def test_the_item_is_found_by_id_and_by_address(stage: Stage) -> None:
    """Point 17; encoded once, twice, or not at all."""
    address = stage.item_address
    wps = stage.service.wps
    base = f"{wps}?request=Execute&service=WPS&Version=1.0.0&Identifier={IDENTIFIER}&DataInputs="
    for item in (stage.item, address, f"{address}/download"):
        values = {**stage.values("probe noop"), "FileParam": item}
        plain = ";".join(f"{name}={value}" for name, value in values.items()).replace(" ", "%20")
        for url in (f"{base}{plain}", stage.service.execute_url(None, **values)):
            answer = stage.service.get(url, headers={"gcube-token": ALICE.token})
            assert "ProcessSucceeded" in answer.text, answer.text
    used = {start.job_id for start in stage.world.engine.starts}
    engine = stage.service.runtime.engine
    assert {engine.job(job_id).request.item_id for job_id in used} == {stage.item}


def test_an_image_that_writes_nothing_succeeds_with_an_empty_zip(stage: Stage) -> None:
    """Point 21: exit code 0 is success, and that there is nothing is said."""
    url = stage.service.execute_url(ALICE.token, **stage.values("probe noop"))
    document = etree.fromstring(stage.service.get(url).content)
    assert "0 files" in text_of(document, "//wps:ProcessSucceeded")
    assert plain_open(texts(document, "//d4science:Data")[-1]).startswith(b"PK")


def test_a_poll_of_a_job_under_way_asks_storagehub_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point 8: polls are cheap."""
    _, location = stage.start("probe forever")
    soon(lambda: stage.portal.look(location).phase is Phase.RUNNING)
    asked: list[object] = []
    hub = stage.service.runtime.engine._storagehub
    with monkeypatch.context() as patch:
        patch.setattr(hub, "workspace_root", asked.append)
        for _ in range(100):
            assert stage.portal.look(location).phase is Phase.RUNNING
    assert asked == []
    stage.portal.cancel(urlsplit(location).query.removeprefix("id="))


def test_nothing_shows_the_token(
    stage: Stage, computation: Computation, caplog: pytest.LogCaptureFixture
) -> None:
    """Point 4: a program that prints it, a failure that repeats the log, lineage, our own log."""
    caplog.set_level("INFO")
    url = stage.service.execute_url(ALICE.token, **stage.values("probe print-token"))
    answer = stage.service.get(f"{url}&lineage=true")
    log = texts(etree.fromstring(answer.content), "//d4science:Data")[0]
    shown = [answer.text, plain_open(log).decode()]
    assert "gcubeToken: ***" in shown[1]
    url = stage.service.execute_url(ALICE.token, **stage.values("probe print-tokens"))
    shown += [stage.service.get(url).text, stage.service.get(status_path(computation.job_id)).text]
    # Appended to addresses that have no query, as template clients do.
    result = f"/results/{'0' * 32}/a.zip"
    for path in ("/wps/WebProcessingService", "/wps/RetrieveResultServlet%3Fid=1", result):
        stage.service.get(f"{path}&gcube-token={ALICE.token}")
    shown.append(caplog.text)
    assert not any(ALICE.token in each for each in shown)


def test_clients_that_come_at_once_are_all_served(stage: Stage) -> None:
    """The portal describes each process by a request of its own, many at a time."""
    failures: list[Exception] = []

    def describe() -> None:
        try:
            portal = Portal(stage.service.wps, ALICE.name, ALICE.token)
            portal.operators()
            portal.describe(IDENTIFIER)
            portal.close()
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=describe) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    # A doubled slash and a default port, as the portal's registry writes them.
    doubled = stage.service.settings.url + "/" + WPS_PATH
    assert Portal(doubled, ALICE.name, ALICE.token).operators()

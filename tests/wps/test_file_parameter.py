"""Each form of the file parameter, from the request to the bytes that the image gets, and what is left."""

from __future__ import annotations

import base64
import io
import socket
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import sqlalchemy as sa
from lxml import etree
from ogc import texts
from quick_fixture import PROBE, Quick, cancel, client_of, quick_world, soon, status, submit
from raw_server import RawServer, http
from service_fixture import Service, elements, job_id_of, text_of
from service_process import Submit, end_after_death
from storagehub_fixture import ALICE, BOB, HubClient

from die_algorithm.description import IDENTIFIER
from die_algorithm.fail_points import InputPoint
from die_algorithm.models import InputContent, Job, JobState
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings
from die_algorithm.steps import recovery
from die_algorithm.steps.job_folder import folder_mark
from die_algorithm.worker import driver

DATA = "b;ü\na;1\n"
NAME = "größe 1.csv"
CHUNK = b"7d0\r\n%b\r\n" % (b"x" * 2000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    with quick_world(tmp_path_factory.mktemp("forms")) as world:
        yield world


@pytest.fixture(scope="module")
def service(world: Quick) -> Iterator[Service]:
    with world.service() as service:
        yield service


@pytest.fixture(scope="module")
def alice(world: Quick) -> Iterator[HubClient]:
    with client_of(world, ALICE) as alice:
        yield alice


@pytest.fixture(scope="module")
def file(alice: HubClient) -> str:
    """The id of a file at ``sub folder/größe 1.csv``; ``data.csv`` in the root has the same in it."""
    alice.upload("data.csv", DATA.encode())
    return alice.upload(NAME, DATA.encode(), alice.create_folder("sub folder"))


def public_link(user: HubClient, item: str) -> str:
    return str(user.get(f"/items/{item}/publiclink").json())


@pytest.fixture(scope="module")
def link(alice: HubClient, file: str) -> str:
    return public_link(alice, file)


def own(world: Quick, folder: Path, **changes: str) -> AbstractContextManager[Service]:
    """A service beside the shared one, with jobs of its own."""
    return world.service(data_dir=str(folder / "own"), **changes)


def kvp(service: Service, item: str) -> str:
    """The address of an Execute of which the file's value is written as given."""
    return service.execute_url(
        ALICE.token, Image=PROBE, CommandName="probe copy out.txt", FileParam="ITEM"
    ).replace("ITEM", quote(item, safe=""))


def xml(value: str, name: str = "FileParam", form: str = "") -> str:
    def literal(name: str, value: str) -> str:
        data = f"<wps:Data><wps:LiteralData>{value}</wps:LiteralData></wps:Data>"
        return f"<wps:Input><ows:Identifier>{name}</ows:Identifier>{data}</wps:Input>"

    form = form or (
        "<wps:RawDataOutput><ows:Identifier>Result</ows:Identifier></wps:RawDataOutput>"
    )
    return (
        '<wps:Execute service="WPS" version="1.0.0" xmlns:wps="http://www.opengis.net/wps/1.0.0" '
        'xmlns:ows="http://www.opengis.net/ows/1.1" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<ows:Identifier>{IDENTIFIER}</ows:Identifier><wps:DataInputs>{literal('Image', PROBE)}"
        f"{literal('CommandName', 'probe copy out.txt')}<wps:Input><ows:Identifier>{name}"
        f"</ows:Identifier>{value}</wps:Input></wps:DataInputs><wps:ResponseForm>{form}"
        "</wps:ResponseForm></wps:Execute>"
    )


def complex_data(data: str, attributes: str = "") -> str:
    return f"<wps:Data><wps:ComplexData {attributes}>{data}</wps:ComplexData></wps:Data>"


def unpacked(answer: requests.Response) -> dict[str, bytes]:
    """The files of a result, without the folder."""
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        return {name.partition("/")[2]: archive.read(name) for name in names}


def posted(service: Service, document: str) -> requests.Response:
    return service.post(document.encode(), headers={"gcube-token": ALICE.token})


def contents_kept(settings: Settings) -> int:
    engine = sa.create_engine(settings.database_url)
    with engine.connect() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM inputs")).scalar_one()
    engine.dispose()
    return int(count)


# -- what the image gets


@pytest.mark.parametrize(
    "item",
    [
        "{id}",
        "{hub}/items/{id}/download",
        f"/Home/{ALICE.name}/Workspace/sub folder/{NAME}",
        f"sub folder/{NAME}",
        f"/sub folder/{NAME}",
        f"./sub folder/{NAME}",
        "data.csv",
        "{link}",
        "@xlink:href={link}",
        f"{quote(DATA)}@mimeType=text/csv",
        f"{base64.b64encode(DATA.encode()).decode()}@encoding=base64",
    ],
)
def test_a_file_given_in_a_query_reaches_the_image(
    world: Quick, service: Service, item: str, file: str, link: str
) -> None:
    value = item.format(id=file, hub=world.hub.base_url, link=link)
    assert unpacked(service.get(kvp(service, value) + "&RawDataOutput=Result")) == {
        "out.txt": DATA.encode()
    }
    world.assert_nothing_left()
    assert contents_kept(service.settings) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('<wps:Reference xlink:href="{link}" mimeType="text/xml"/>', DATA),
        ('<wps:Reference xlink:href="{link}" method="GET"/>', DATA),
        (complex_data("\n  {link}\n"), DATA),
        (complex_data("\n  {id}\n", 'mimeType="text/xml"'), DATA),
        (complex_data(DATA, 'mimeType="text/csv"'), DATA),
        (complex_data(f"<![CDATA[{DATA}]]>"), DATA),
        (
            complex_data(base64.b64encode(DATA.encode()).decode(), 'encoding="base64"'),
            DATA,
        ),
        (complex_data("see {link} there"), "see {link} there"),
    ],
)
@pytest.mark.parametrize("name", ["FileParam", "ItemParam"])
def test_a_file_given_in_a_document_reaches_the_image(
    world: Quick, service: Service, name: str, value: str, expected: str, file: str, link: str
) -> None:
    document = xml(value.format(id=file, link=link), name)
    expected = expected.format(link=link)
    assert unpacked(posted(service, document)) == {"out.txt": expected.encode()}
    world.assert_nothing_left()


def test_the_root_of_the_workspace_is_a_folder_like_any(service: Service, alice: HubClient) -> None:
    root = alice.root()
    job_id = service.submit(ALICE.token, PROBE, "probe args", root)
    job = service.runtime.engine.wait(job_id, 60)
    assert job.state is JobState.SUCCEEDED
    assert root in job.log_tail.splitlines()


def test_embedded_elements_reach_the_image_as_a_document(service: Service) -> None:
    answer = posted(service, xml(complex_data('<a xmlns="urn:x"><b/>é</a>', 'mimeType="text/xml"')))
    root = etree.fromstring(unpacked(answer)["out.txt"])
    assert (root.tag, root[0].tail) == ("{urn:x}a", "é")


def test_a_link_to_bytes_of_unknown_length_is_passed_on_whole(world: Quick, tmp_path: Path) -> None:
    data = "".join(f"{number}\n" for number in range(200_000)).encode()
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(data[at : at + 70_000]), data[at : at + 70_000])
        for at in range(0, len(data), 70_000)
    )
    answer = http("200 OK", chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False)
    with (
        RawServer(answer) as host,
        own(world, tmp_path, trusted_hosts=f"127.0.0.1:{host.port}") as service,
    ):
        url = kvp(service, f"http://127.0.0.1:{host.port}/numbers.txt?v=1")
        assert unpacked(service.get(url + "&RawDataOutput=Result")) == {"out.txt": data}
        assert len(host.requests) == 2  # once to see that it is there
        for request in host.requests:
            assert ALICE.token.encode() not in request.raw
    world.assert_nothing_left()


def test_while_it_runs_a_job_has_its_file_in_a_folder_beside_the_results(
    world: Quick, service: Service, alice: HubClient, link: str
) -> None:
    job_id = submit(service, "probe sleep 60", link)
    engine = service.runtime.engine
    job = soon(lambda: j if (j := engine.job(job_id)).state is JobState.RUNNING else None)
    assert job.folder is not None
    assert job.input_folder is not None
    assert world.folders() == [f"die-{job_id}", f"die-{job_id}-input"]
    assert alice.children(job.folder.id) == []
    (staged,) = alice.children(job.input_folder.id)
    assert (staged["id"], staged["name"]) == (job.staged_item, NAME)
    assert str(alice.item(job.input_folder.id)["description"]).endswith(
        folder_mark(service.settings.instance_name)
    )
    assert cancel(service, job_id).status_code == 200
    assert engine.wait(job_id, 20).state is JobState.DISMISSED
    world.assert_nothing_left()


def test_a_failed_job_keeps_its_results_and_not_its_input(
    world: Quick, service: Service, alice: HubClient
) -> None:
    url = service.execute_url(
        ALICE.token,
        Image=PROBE,
        CommandName="probe write-exit half.txt 0 3",
        FileParam="CONTENT",
    ).replace("CONTENT", quote(quote("x"), safe="") + "@mimeType=text/plain")
    document = etree.fromstring(service.get(url).content)
    assert "Exit code: 3." in text_of(document, "//wps:ProcessFailed")
    (kept,) = world.folders()
    assert not kept.endswith("-input")
    assert contents_kept(service.settings) == 0
    folder = next(each for each in alice.children(alice.root()) if each["name"] == kept)
    alice.request("DELETE", f"/items/{folder['id']}", params={"force": "true"})


def test_lineage_repeats_what_was_given_without_queries_and_only_the_beginning_of_content(
    service: Service, link: str
) -> None:
    form = '<wps:ResponseDocument lineage="true"/>'
    for value, shown in (
        (f'<wps:Reference xlink:href="{link}?v=secret"/>', link),
        (complex_data("x" * 3000), "x" * 1000),
        (complex_data("AP8=", 'encoding="base64"'), "2 bytes of application/octet-stream"),
    ):
        document = etree.fromstring(posted(service, xml(value, form=form)).content)
        inputs = texts(document, "//wps:DataInputs//wps:LiteralData/text()")
        assert inputs == [PROBE, "probe copy out.txt", shown]


def test_free_text_is_kept_exactly(service: Service) -> None:
    """The only free text that a request may hold is a file's own (reference: safety, Z11)."""
    text = "naïve 🐳 \u202e עברית e\u0301 é \U0010fffd"
    sent = complex_data(text, 'mimeType="text/plain"')
    assert unpacked(posted(service, xml(sent))) == {"out.txt": text.encode()}
    form = '<wps:ResponseDocument lineage="true"/>'
    document = etree.fromstring(posted(service, xml(sent, form=form)).content)
    assert texts(document, "//wps:DataInputs//wps:LiteralData/text()")[-1] == text


# -- what is refused


def jobs(settings: Settings) -> int:
    engine = sa.create_engine(settings.database_url)
    with engine.connect() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar_one()
    engine.dispose()
    return int(count)


@pytest.fixture
def untouched(world: Quick, service: Service) -> Iterator[None]:
    before = jobs(service.settings)
    yield
    assert jobs(service.settings) == before
    world.assert_nothing_left()


def refusal(answer: requests.Response) -> tuple[int, str | None, str]:
    document = etree.fromstring(answer.content)
    (exception,) = elements(document, "//ows:Exception")
    return answer.status_code, exception.get("locator"), text_of(document, "//ows:ExceptionText")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("no.txt", "There is no 'no.txt' in the root of your workspace."),
        ("missing1.txt", "There is no 'missing1.txt' in the root of your workspace."),
        ("sub folder/no/x", "There is no 'no' in the folder 'sub folder' of your workspace."),
        (f"/Home/{ALICE.name}/Workspace/nowhere/x", "There is no 'nowhere' in the root"),
        ("a.txt/x", "'a.txt' in your workspace is no folder, so there is no 'x' in it."),
        ("sub*/x", "There is no 'sub*' in the root"),
        (f"/Home/{BOB.name}/Workspace/data.csv", "the workspace of another user"),
        ("sub folder/../data.csv", "neither the id"),
        ("hello world", "There is no 'hello world' in the root"),
        ("https://evil.org/x", "not trusted here. Public links of this service's own StorageHub"),
        ("gopher://evil.org/x", "no link that is taken here"),
        (f"http://127.0.0.1/x?gcube-token={BOB.token}", "holds a token"),
        ("AA@encoding=rot13", "'rot13', which is not read here"),
        ("A@encoding=base64", "not valid base64"),
    ],
)
@pytest.mark.usefixtures("untouched", "file")
def test_what_cannot_be_used_is_refused_with_the_reason(
    service: Service, item: str, words: str
) -> None:
    status, locator, text = refusal(service.get(kvp(service, item)))
    assert (status, locator) == (400, "FileParam")
    assert words in text
    assert text.endswith(".")


@pytest.mark.usefixtures("untouched")
def test_a_dead_or_private_link_of_storagehub_is_refused(
    world: Quick, service: Service, link: str, file: str
) -> None:
    for dead in (f"{link[:-8]}AAAAAAAA", f"{world.hub.url}/storagehub/workspace/items?{file}"):
        status, locator, text = refusal(service.get(kvp(service, dead)))
        assert (status, locator) == (400, "FileParam")
        assert "The public link cannot be used: " in text


@pytest.mark.usefixtures("untouched")
def test_content_above_the_limit_is_refused(world: Quick, tmp_path: Path) -> None:
    with own(world, tmp_path, max_request_size="10KiB") as small:
        answer = small.get(kvp(small, f"{'x' * 20_000}@mimeType=text/plain"))
    assert refusal(answer)[:2] == (413, "FileParam")


def test_nobody_knocks_at_a_host_that_is_not_trusted(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.setblocking(False)
        port = stranger.getsockname()[1]
        hub = service.settings.storagehub_url.partition("/storagehub")[0]
        for address in (
            f"http://127.0.0.1:{port}/x",
            f"http://localhost:{port}/x",
            f"{hub}@127.0.0.1:{port}/x",
            f"{hub}#@127.0.0.1:{port}/x",
            f"{hub}\\@127.0.0.1:{port}/x",
        ):
            assert service.get(kvp(service, address)).status_code == 400
            document = xml(f'<wps:Reference xlink:href="{address}"/>')
            assert posted(service, document).status_code == 400
        with pytest.raises(BlockingIOError):
            stranger.accept()


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (http("404 Gone"), 400, "there is no file (HTTP 404)"),
        (http("403 No"), 400, "not give the file to everybody (HTTP 403)"),
        (http("302 X", b"", "Location: http://10.0.0.1/"), 400, "a host that is not trusted"),
        (http("200 OK", b"", "Content-Length: 2000", length=False), 400, "1024 bytes"),
        (http("503 Sorry"), 503, "does not serve it at the moment (HTTP 503)"),
        (b"", 503, "cannot be reached, or its answer broke off"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_a_link_is_looked_at_before_a_job_is_accepted(
    world: Quick, tmp_path: Path, answer: bytes, status: int, words: str
) -> None:
    with (
        RawServer(answer) as host,
        own(
            world, tmp_path, trusted_hosts=f"127.0.0.1:{host.port}", max_input_size="1KiB"
        ) as service,
    ):
        address = f"http://127.0.0.1:{host.port}/x"
        found, locator, text = refusal(service.get(kvp(service, address)))
        assert (found, locator) == (status, "FileParam" if status == 400 else None)
        assert words in text
        assert len(host.requests) == 1


def test_a_host_that_hangs_hinders_only_those_who_wait_for_it(world: Quick, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=50) as silent,
        own(
            world,
            tmp_path,
            trusted_hosts=f"127.0.0.1:{silent.getsockname()[1]}",
            storagehub_timeout="5s",
            threads="96",
            max_sync="48",
        ) as service,
        ThreadPoolExecutor(20) as clients,
    ):
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        asked = [clients.submit(service.get, kvp(service, address)) for _ in range(20)]
        connection, _ = silent.accept()
        answer = service.get(kvp(service, world.item))
        assert answer.status_code == 200
        assert not all(each.done() for each in asked)
        assert {each.result().status_code for each in asked} == {503}
        connection.close()


@pytest.mark.parametrize(
    ("given", "attributes"),
    [
        (f"Authorization: Basic {base64.b64encode(f'alice:{ALICE.token}'.encode()).decode()}", ""),
        (ALICE.token.upper(), ""),
        ("a", f'mimeType="text/{ALICE.token}"'),
        (base64.b64encode(ALICE.token.encode()).decode(), 'encoding="base64"'),
    ],
)
def test_content_that_holds_the_callers_token_is_refused_and_not_kept(
    service: Service, given: str, attributes: str
) -> None:
    before = contents_kept(service.settings)
    answer = posted(service, xml(complex_data(given, attributes)))
    assert answer.status_code == 400
    document = etree.fromstring(answer.content)
    assert document[0].get("locator") == "FileParam"
    assert "FileParam holds your token" in answer.text
    assert contents_kept(service.settings) == before


# -- idempotency


def test_a_retry_with_its_key_is_the_same_job_whatever_the_form(
    world: Quick, service: Service, link: str
) -> None:
    for item, other in (
        (f"sub folder/{NAME}", "data.csv"),
        (link, "data.csv"),
        ("x@mimeType=text/csv", "y@mimeType=text/csv"),
    ):
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        form = "&storeExecuteResponse=true&status=true"
        answers = [
            service.get(kvp(service, each) + form, headers=headers) for each in (item, item, other)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 422]
        ids = [job_id_of(etree.fromstring(answer.content)) for answer in answers[:2]]
        assert ids[0] == ids[1]
        assert service.runtime.engine.wait(ids[0], 20).state is JobState.SUCCEEDED
    world.assert_nothing_left()


# -- what happens between acceptance and the start


@pytest.mark.parametrize(
    ("later", "fault", "words"),
    [
        (http("404 Gone"), "STORAGE", "there is no file (HTTP 404). Check the link"),
        (http("302 X", b"", "Location: http://10.0.0.1/"), "STORAGE", "a host that is not trusted"),
        (
            http("200 OK", CHUNK, "Transfer-Encoding: chunked", length=False),
            "LIMIT",
            "larger than the 1024 bytes",
        ),
        (http("200 OK", b"x", length=False), "STORAGE", "does not say how long the file is"),
    ],
)
def test_a_link_that_is_no_more_what_it_was_fails_the_job(
    world: Quick, tmp_path: Path, later: bytes, fault: str, words: str
) -> None:
    with (
        RawServer(http("200 OK", b"x"), later) as host,
        own(
            world, tmp_path, trusted_hosts=f"127.0.0.1:{host.port}", max_input_size="1KiB"
        ) as service,
    ):
        job_id = submit(service, "probe noop", f"http://127.0.0.1:{host.port}/x")
        job = service.runtime.engine.wait(job_id, 20)
        assert job.failure is not None
        assert job.failure.fault_class.value == fault
        assert words in job.failure.text
    world.assert_nothing_left()


def test_an_outage_of_the_links_host_is_waited_out(
    world: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.2)
    half = http("200 OK", b"half", "Content-Length: 9", length=False)
    answers = (http("200 OK", b"x"), http("503 Sorry"), b"", half, half, http("200 OK", b"whole"))
    with (
        RawServer(*answers) as host,
        own(world, tmp_path, trusted_hosts=f"127.0.0.1:{host.port}") as service,
    ):
        job_id = submit(service, "probe copy out.txt", f"http://127.0.0.1:{host.port}/x")
        soon(lambda: "waiting for the host of the public link" in status(service, job_id))
        assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
        document = etree.fromstring(status(service, job_id).encode())
        address = texts(document, "//ogr:Result/d4science:Data/text()")[1]
        assert unpacked(service.get(address)) == {"out.txt": b"whole"}
        assert len(host.requests) == 6
    world.assert_nothing_left()


def test_a_job_that_is_cancelled_while_its_file_comes_leaves_nothing(
    world: Quick, tmp_path: Path
) -> None:
    def slow(connection: object) -> None:
        head = http("200 OK", b"", "Content-Length: 100000000", length=False)
        connection.send(head)  # type: ignore[attr-defined]
        connection.drip(iter(lambda: b"x" * 20_000, b""), every=0.1)  # type: ignore[attr-defined]

    with (
        RawServer(slow) as host,
        own(world, tmp_path, trusted_hosts=f"127.0.0.1:{host.port}") as service,
    ):
        job_id = submit(service, "probe noop", f"http://127.0.0.1:{host.port}/x")
        soon(lambda: len(world.folders()) == 2)
        assert cancel(service, job_id).status_code == 200
        assert service.runtime.engine.wait(job_id, 20).state is JobState.DISMISSED
    world.assert_nothing_left()


def test_the_input_folder_of_an_ended_job_is_removed_with_the_next_one(
    service: Service, alice: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_SEARCH_EVERY", 0.0)
    ended = submit(service, "probe noop", "data.csv")
    assert service.runtime.engine.wait(ended, 20).state is JobState.SUCCEEDED
    mark = folder_mark(service.settings.instance_name)
    ours = alice.create_folder(f"die-{ended}-input", description=f"Input, {mark}")
    alice.upload("input.txt", b"x", ours)
    theirs = alice.create_folder(f"die-{ended}-input", description="mine")
    young = alice.create_folder(f"die-{uuid.uuid4()}-input", description=f"Input, {mark}")
    other = submit(service, "probe noop", "data.csv")
    assert service.runtime.engine.wait(other, 20).state is JobState.SUCCEEDED
    left = {each["id"] for each in alice.children(alice.root()) if "die-" in str(each["name"])}
    assert left == {theirs, young}
    for item in left:
        alice.request("DELETE", f"/items/{item}", params={"force": "true"})


# -- death, and a database that is lost


@pytest.mark.parametrize("form", ["link", "content"])
@pytest.mark.parametrize("point", InputPoint)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_service_killed_while_it_stages_in_goes_on_and_leaves_nothing(
    world: Quick, link: str, tmp_path: Path, form: str, point: InputPoint, side: str
) -> None:  # fmt: skip
    settings = world.settings(data_dir=str(tmp_path / "data"))
    content = InputContent(data=DATA.encode(), media_type="text/csv")
    item = link if form == "link" else content
    key = {"Idempotency-Key": "the-same"}
    call = Submit(token=ALICE.token, image=PROBE, command="probe copy o", item=item, headers=key)
    job = end_after_death(settings, tmp_path / "log", call, f"{point.value}:{side}")
    assert job.state is JobState.SUCCEEDED, job.failure
    assert result_of(settings, job) == DATA.encode()
    assert [start.job_id for start in world.engine.starts].count(job.id) == 1
    assert contents_kept(settings) == 0
    world.assert_nothing_left()


def result_of(settings: Settings, job: Job) -> bytes:
    """The one file in a job's zip."""
    (path,) = settings.results_path.rglob("*.zip")
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{job.folder_name}/o")


def test_a_job_made_again_after_the_database_was_lost_removes_its_input(
    world: Quick, tmp_path: Path
) -> None:
    changes = {"instance": "here", "data_dir": str(tmp_path / "data")}
    with world.service(**changes) as service:
        url = service.execute_url(
            ALICE.token, asynchronous=True, Image=PROBE, CommandName="probe write-slowly o 60",
            FileParam="CONTENT",
        ).replace("CONTENT", "x@mimeType=text/plain")  # fmt: skip
        job_id = job_id_of(etree.fromstring(service.get(url).content))
        before = soon(lambda: running(service, job_id))
    (tmp_path / "data").rename(tmp_path / "lost")
    with world.service(**changes) as service:
        after = soon(lambda: running(service, job_id))
        assert (after.item_id, after.input_folder) == (before.item_id, after.input_folder)
        assert after.input_folder is not None
        world.engine.let_end(job_id)
        assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    world.assert_nothing_left()


def running(service: Service, job_id: str) -> Job | None:
    if "no job of this id" in status(service, job_id):
        return None
    job = service.runtime.engine.job(job_id)
    return job if job.state is JobState.RUNNING else None


def test_content_that_is_lost_fails_its_job_and_nothing_else(world: Quick, tmp_path: Path) -> None:
    settings = world.settings(data_dir=str(tmp_path / "data"))
    at = f"{InputPoint.FOLDER_CREATED.value}:before"
    call = Submit(
        token=ALICE.token, image=PROBE, command="probe noop",
        item=InputContent(data=b"x", media_type="text/plain"), headers={"Idempotency-Key": "1"},
    )  # fmt: skip

    def lose_inputs() -> None:
        with closing(job_store(settings)):
            engine = sa.create_engine(settings.database_url)
            with engine.begin() as connection:
                connection.execute(sa.text("DELETE FROM inputs"))
            engine.dispose()

    job = end_after_death(settings, tmp_path / "log", call, at, lose_inputs)
    assert job.failure is not None
    assert "lost the file that was sent" in job.failure.text
    world.assert_nothing_left()

"""Results that do harm, and a StorageHub that lies about them, before the running service.

What single answers and zips may hold is tried in ``tests/unit/test_archive.py`` and
``tests/contract/test_storagehub_faults.py``; here it goes all the way to the zip that a user unpacks.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hostile_ground import failure_of
from hub_in_front import Lie, Refusal, hub_in_front, is_download, is_listing, item_of, relisted
from quick_fixture import PROBE, Quick, cancel, client_of
from raw_server import Connection, Request, http, json_answer
from service_fixture import Service, status_path
from storagehub_fixture import ALICE

from die_algorithm.models import FaultClass, Job, JobState

#: Names that leave the target, are none on some system, or are the same as another on some.
NAMES = (
    "../../evil", "..", "/etc/passwd", "C:\\win\\x", "\\\\server\\share", "a\0b.txt",
    "line\nbreak\x1b[31m", "x" * 300, "CON", "nul.txt", "caf\u00e9", "cafe\u0301", "README", "readme",
    "\ud800lone", "dot.", "blank ", "gpj.\u202eexe.txt", "-rf", "$(touch evil)",
)  # fmt: skip


@contextmanager
def lying(
    quick: Quick, lie: Lie, *, refused: Refusal = lambda _request: None, **changes: str
) -> Iterator[Service]:
    """A service that talks to a StorageHub that lies; its containers talk to the real one."""
    with hub_in_front(quick.hub, lie, refused) as front:
        settings = {
            "storagehub_url": front.url,
            "container_storagehub_url": quick.hub.base_url,
            "outage_patience": "1s",
            **changes,
        }
        with pytest.MonkeyPatch.context() as patch, quick.service(**settings) as service:
            patch.setattr("die_algorithm.worker.driver._OUTAGE_PAUSE", 0.2)
            yield service


def run(service: Service, quick: Quick, *names: str, content: bytes = b"content") -> Job:
    """Run a job in whose folder are files of these names."""
    engine = service.runtime.engine
    quick.engine.hold_pending()
    job_id = service.submit(ALICE.token, PROBE, "probe noop", quick.item)
    while (job := engine.job(job_id)).folder is None:
        engine.wait(job_id, 0.02)
    with client_of(quick, ALICE) as alice:
        for name in names:
            alice.upload(name, content, parent=job.folder.id)
    quick.engine.release_pending()
    return end(service, job_id)


def end(service: Service, job_id: str) -> Job:
    """Wait for a job's end, and see that its document can be read."""
    job = service.runtime.engine.wait(job_id, 120)
    assert [state for state in job.reached if state.is_final] == [job.state], job
    assert service.get(status_path(job_id)).status_code == 200
    return job


def zip_of(service: Service, job: Job) -> Path:
    """The zip of a job that has succeeded."""
    assert job.state is JobState.SUCCEEDED, job.failure
    return next(service.settings.results_path.rglob("*.zip"))


def contents(archive: Path) -> list[bytes]:
    with zipfile.ZipFile(archive) as source:
        assert source.testzip() is None
        return [source.read(info) for info in source.infolist() if not info.is_dir()]


def zipped(name: str) -> bytes:
    """A zip of one file."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as target:
            target.writestr(name, b"content")
        return buffer.getvalue()


# -- names


def test_whatever_names_storagehub_tells_unzippers_stay_below_the_target(
    quick: Quick, tmp_path: Path
) -> None:
    def rename(item: dict[str, Any]) -> dict[str, Any]:
        found = re.fullmatch(r"n(\d+)", item["name"])
        return item | {"name": NAMES[int(found[1])]} if found else item

    def lie(request: Request, body: bytes) -> bytes:
        return relisted(body, rename) if is_listing(request) else body

    with lying(quick, lie) as service:
        job = run(service, quick, *(f"n{number}" for number in range(len(NAMES))))
        archive = zip_of(service, job)
    assert job.result is not None
    assert job.result.files == len(NAMES)
    assert any("../../evil" in note for note in job.result.notes)
    for number, command in enumerate(
        (["unzip", "-o", "-q", "{}", "-d"], [sys.executable, "-m", "zipfile", "-e", "{}"])
    ):
        target = tmp_path / f"outer{number}" / "deep" / "target"
        target.mkdir(parents=True)
        words = [word.replace("{}", str(archive)) for word in command]
        subprocess.run([*words, str(target)], check=True, capture_output=True)
        found = [path for path in (tmp_path / f"outer{number}").rglob("*") if path.is_file()]
        assert len(found) == len(NAMES)
        assert all(target in path.parents and not path.is_symlink() for path in found)
    quick.assert_nothing_left()


# -- shapes


def test_a_folder_that_lists_itself_and_those_above_it_is_walked_once(quick: Quick) -> None:
    def lie(request: Request, body: bytes) -> bytes:
        if not is_listing(request) or "start=0" not in request.target:
            return body
        listed = json.loads(body)["itemlist"]
        itself = {"id": item_of(request), "name": "again", "@class": "org.x.SharedFolder"}
        return json.dumps({"itemlist": [*listed, itself]}).encode()

    with lying(quick, lie) as service:
        job = run(service, quick, "a.txt")
        assert contents(zip_of(service, job)) == [b"content"]
    quick.assert_nothing_left()


def test_folders_in_folders_250_deep_are_a_result(quick: Quick) -> None:
    with quick.service() as service:
        engine = service.runtime.engine
        quick.engine.hold_pending()
        job_id = service.submit(ALICE.token, PROBE, "probe noop", quick.item)
        while (job := engine.job(job_id)).folder is None:
            engine.wait(job_id, 0.02)
        with client_of(quick, ALICE) as alice:
            parts = {
                "parentFolderName": (None, "d"),
                "file": ("a", zipped("d/" * 248 + "deep.txt")),
            }
            path = f"/items/{job.folder.id}/create/ARCHIVE"
            assert alice.request("POST", path, files=parts).status_code == 200
        quick.engine.release_pending()
        assert contents(zip_of(service, end(service, job_id))) == [b"content"]
    quick.assert_nothing_left()


def bottomless() -> Lie:
    """Folders in folders without end."""
    ids = itertools.count()

    def lie(request: Request, body: bytes) -> bytes:
        if not is_listing(request):
            return body
        if "start=0" not in request.target:
            return b'{"itemlist": []}'
        item = {"id": f"i{next(ids)}", "name": "d", "@class": "org.x.SharedFolder"}
        return json.dumps({"itemlist": [item]}).encode()

    return lie


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancel", "stop"])
def test_a_listing_that_takes_long_is_broken_off(quick: Quick, *, is_cancelled: bool) -> None:
    deeper = bottomless()
    pages = threading.Semaphore(0)

    def lie(request: Request, body: bytes) -> bytes | Callable[[Connection], None]:
        if is_listing(request):
            pages.release()
            threading.Event().wait(0.2)  # of 1000 pages
        return deeper(request, body)

    with lying(quick, lie) as service:
        engine = service.runtime.engine
        job_id = service.submit(ALICE.token, PROBE, "probe noop", quick.item)
        for _ in range(3):
            assert pages.acquire(timeout=20)
        started = time.monotonic()
        if is_cancelled:
            cancel(service, job_id)
            assert engine.wait(job_id, 20).state is JobState.DISMISSED
        else:
            service.stop()
            assert engine.job(job_id).state is JobState.STAGING_OUT
        assert time.monotonic() - started < 10


def test_more_levels_than_are_followed_are_a_named_limit(quick: Quick) -> None:
    with lying(quick, bottomless()) as service:
        job = run(service, quick, "a.txt")
    assert "500 levels" in failure_of(job, FaultClass.LIMIT).text


def test_more_items_than_allowed_are_a_named_limit_in_bounded_memory(quick: Quick) -> None:
    numbers = itertools.count()

    def lie(request: Request, body: bytes) -> bytes:
        if not is_listing(request):
            return body
        items = [
            {"id": f"i{next(numbers)}", "name": "x" * 200, "@class": "org.x.GenericFileItem"}
            for _ in range(500)
        ]
        return json.dumps({"itemlist": items}).encode()

    with lying(quick, lie) as service:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        job = run(service, quick, "a.txt")
    assert "100000 files and folders" in failure_of(job, FaultClass.LIMIT).text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024  # KiB
    assert job.folder_kept


def test_more_bytes_than_allowed_are_a_named_limit_before_any_is_fetched(quick: Quick) -> None:
    fetched = []

    def lie(request: Request, body: bytes) -> bytes:
        if is_download(request):
            fetched.append(request.target)
        if not is_listing(request):
            return body
        return relisted(body, lambda item: item | {"content": {"size": 10**13}})

    with lying(quick, lie) as service:
        job = run(service, quick, "a.txt")
        assert not list(service.settings.results_path.rglob("*.zip*"))
    text = failure_of(job, FaultClass.LIMIT).text
    assert "10 TB" in text
    assert "53.7 GB" in text
    assert fetched == []


# -- what is fetched


def cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def page(_body: bytes) -> bytes:
    return b"<html><body>Please log in</body></html>"


def squeezed(body: bytes) -> Callable[[Connection], None]:
    packed = gzip.compress(body)
    return lambda connection: connection.send(http("200 OK", packed, "Content-Encoding: gzip"))


def promised(body: bytes) -> Callable[[Connection], None]:
    head = http("200 OK", b"", f"Content-Length: {len(body) + 10}", length=False)
    return lambda connection: connection.send(head + body)


def bomb(_body: bytes) -> Callable[[Connection], None]:
    """Ten GB of zeros, in what calls itself a compressed answer."""
    packed = gzip.compress(bytes(10**7)) * 1000
    return lambda connection: connection.send(http("200 OK", packed, "Content-Encoding: gzip"))


DAMAGE = (cut, flipped, page, squeezed, promised, bomb)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_zip_is_replaced_by_what_single_files_hold(
    quick: Quick, damage: Callable[[bytes], Any]
) -> None:
    folders: set[str] = set()

    def lie(request: Request, body: bytes) -> bytes | Callable[[Connection], None]:
        if is_listing(request):
            folders.add(item_of(request))
        is_zip = is_download(request) and item_of(request) in folders
        return damage(body) if is_zip else body

    with lying(quick, lie) as service:
        job = run(service, quick, "a.txt", "b.txt")
        assert contents(zip_of(service, job)) == [b"content"] * 2
    quick.assert_nothing_left()


@pytest.mark.parametrize("damage", [cut, page, squeezed, promised, bomb])
def test_what_never_comes_whole_is_never_served(
    quick: Quick, damage: Callable[[bytes], Any]
) -> None:
    def lie(request: Request, body: bytes) -> bytes | Callable[[Connection], None]:
        return damage(body) if is_download(request) else body

    with lying(quick, lie) as service:
        job = run(service, quick, "a.txt")
        assert not list(service.settings.results_path.rglob("*.zip*"))
    failure_of(job, FaultClass.STORAGE)
    assert job.folder_kept


def test_half_a_file_is_never_served_though_nobody_has_told_its_size(quick: Quick) -> None:
    folders: set[str] = set()

    def lie(request: Request, body: bytes) -> bytes | Callable[[Connection], None]:
        if is_listing(request):
            folders.add(item_of(request))
            return relisted(body, lambda item: item | {"content": {}})
        if not is_download(request):
            return body
        if item_of(request) in folders:
            return page(body)
        half = http("200 OK", cut(body), "Content-Type: text/plain", length=False)
        return lambda connection: connection.send(half)

    with lying(quick, lie) as service:
        job = run(service, quick, "a.txt")
        assert not list(service.settings.results_path.rglob("*.zip*"))
    failure_of(job, FaultClass.STORAGE)
    assert job.folder_kept


# -- a StorageHub in trouble

#: What StorageHub says when its backend fails, and what a proxy before it says while it is deployed.
TROUBLE = {
    "backend": json_answer(
        {
            "id": 7,
            "message": "javax.jcr.RepositoryException",
            "exceptionClass": "org.gcube.common.storagehub.model.exceptions.BackendGenericError",
        },
        "500 Internal Server Error",
    ),
    "page": http("404 Not Found", b"<html>HTTP Status 404</html>", "Content-Type: text/html"),
}


def truly(_request: Request, body: bytes) -> bytes:
    """No lie."""
    return body


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
@pytest.mark.parametrize("is_asked", [is_listing, is_download], ids=["listing", "download"])
def test_trouble_of_storagehub_costs_no_finished_result(
    quick: Quick, trouble: bytes, is_asked: Callable[[Request], bool]
) -> None:
    left = itertools.count(6, -1)

    def refused(request: Request) -> bytes | None:
        return trouble if is_asked(request) and next(left) > 0 else None

    with lying(quick, truly, refused=refused, outage_patience="60s") as service:
        job = run(service, quick, "a.txt")
        assert contents(zip_of(service, job)) == [b"content"]
    assert next(left) < 0
    quick.assert_nothing_left()


@pytest.mark.parametrize(
    "answer",
    [*TROUBLE.values(), http("503 Service Unavailable"), http("403 Forbidden", b"<html>")],
    ids=[*TROUBLE, "unavailable", "forbidden"],
)
def test_a_zip_that_storagehub_never_gives_is_replaced_by_what_single_files_hold(
    quick: Quick, answer: bytes
) -> None:
    folders: set[str] = set()
    zips = 0

    def refused(request: Request) -> bytes | None:
        nonlocal zips
        if is_listing(request):
            folders.add(item_of(request))
        is_zip = is_download(request) and item_of(request) in folders
        zips += is_zip
        return answer if is_zip else None

    with lying(quick, truly, refused=refused, outage_patience="60s") as service:
        job = run(service, quick, "a.txt", "b.txt")
        assert contents(zip_of(service, job)) == [b"content"] * 2
    assert zips > 1  # one alone may be an accident
    quick.assert_nothing_left()


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
def test_a_folder_that_may_still_be_there_is_named_and_removed_later(
    quick: Quick, trouble: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("die_algorithm.steps.recovery._SEARCH_EVERY", 0.0)
    began, over = threading.Event(), threading.Event()

    def refused(request: Request) -> bytes | None:
        if request.method == "DELETE":
            began.set()
        return trouble if began.is_set() and not over.is_set() else None

    with lying(quick, truly, refused=refused) as service:
        job = run(service, quick, "a.txt")
        assert contents(zip_of(service, job)) == [b"content"]
        assert job.folder_kept
        assert f"{job.folder_name} could not be removed" in service.get(status_path(job.id)).text
        assert quick.folders() == [job.folder_name]
        over.set()
        end(service, service.submit(ALICE.token, PROBE, "probe noop", quick.item))
    quick.assert_nothing_left()


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
def test_an_item_that_storagehub_does_not_show_is_refused_at_once(
    quick: Quick, trouble: bytes
) -> None:
    def refused(request: Request) -> bytes | None:
        return trouble if item_of(request) == quick.item else None

    with lying(quick, truly, refused=refused) as service:
        inputs = {"Image": PROBE, "CommandName": "probe noop", "FileParam": quick.item}
        answer = service.get(service.execute_url(ALICE.token, asynchronous=True, **inputs))
    assert answer.status_code == 400
    assert 'locator="FileParam"' in answer.text
    assert "There is no such item in the workspace" in answer.text
    quick.assert_nothing_left()


# -- a folder that does not rest


class Restless:
    """Changes the folder whenever its zip has been fetched, so many times.

    Args:
        quick: where it is.
        times: how often.
        change: what is done, given the number of the change and the folder.
    """

    def __init__(self, quick: Quick, times: int, change: str) -> None:
        self._quick = quick
        self._left = times
        self._change = change
        self._lock = threading.Lock()
        self.folder = ""

    def __call__(self, request: Request, body: bytes) -> bytes:
        with self._lock:
            if is_listing(request):
                self.folder = item_of(request)
            elif is_download(request) and item_of(request) == self.folder and self._left:
                self._left -= 1
                self._disturb()
        return body

    def _disturb(self) -> None:
        with client_of(self._quick, ALICE) as alice:
            first = min(alice.children(self.folder), key=lambda child: str(child["name"]))
            if self._change == "add":
                alice.upload(f"more-{self._left}.txt", b"more", parent=self.folder)
            elif self._change == "delete":
                alice.request("DELETE", f"/items/{first['id']}", params={"force": "true"})
            else:
                name = f"renamed-{self._left}.txt"
                alice.request("PUT", f"/items/{first['id']}/rename", data={"newName": name})


@pytest.mark.parametrize("change", ["add", "delete", "rename"])
def test_a_folder_that_comes_to_rest_is_delivered_as_it_is_then(quick: Quick, change: str) -> None:
    restless = Restless(quick, 2, change)
    with lying(quick, restless) as service:
        job = run(service, quick, "a.txt", "b.txt", "c.txt")
        assert len(contents(zip_of(service, job))) == {"add": 5, "delete": 1, "rename": 3}[change]
    assert job.result is not None
    assert job.result.notes == ()


def test_a_folder_that_never_rests_is_delivered_and_the_status_says_so(quick: Quick) -> None:
    with lying(quick, Restless(quick, 10, "add")) as service:
        job = run(service, quick, "a.txt")
        assert b"content" in contents(zip_of(service, job))
        assert "changed while it was fetched" in service.get(status_path(job.id)).text


def test_a_folder_with_items_that_are_no_files_is_kept_for_its_time(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("die_algorithm.steps.recovery._SEARCH_EVERY", 0.0)
    record = {"name": "record", "itemType": "t", "creator": ALICE.name}
    with quick.service(folder_retention="3s") as service:
        engine = service.runtime.engine
        quick.engine.hold_pending()
        job_id = service.submit(ALICE.token, PROBE, "probe noop", quick.item)
        while (job := engine.job(job_id)).folder is None:
            engine.wait(job_id, 0.02)
        with client_of(quick, ALICE) as alice:
            alice.upload("a.txt", b"content", parent=job.folder.id)
            path = f"/items/{job.folder.id}/create/GCUBEITEM"
            assert alice.request("POST", path, json=record).status_code == 200
        quick.engine.release_pending()
        job = end(service, job_id)
        assert contents(zip_of(service, job)) == [b"content"]
        text = service.get(status_path(job_id)).text
        assert "record" in text
        assert f"The folder {job.folder_name} is kept in the workspace until" in text
        end(service, service.submit(ALICE.token, PROBE, "probe noop", quick.item))
        assert quick.folders() == [job.folder_name]
        assert job.expiry is not None
        left = job.expiry.folder_at - datetime.now(UTC)
        threading.Event().wait(left.total_seconds())
        end(service, service.submit(ALICE.token, PROBE, "probe noop", quick.item))
    quick.assert_nothing_left()


def test_an_outage_after_a_long_good_transfer_is_another_one(quick: Quick) -> None:
    content = os.urandom(2**21)
    folders: set[str] = set()
    # A call is tried again a few times before it counts as an outage.
    listings, zips, files = (itertools.count() for _ in range(3))

    def away(connection: Connection) -> None:
        connection.send(http("503 Service Unavailable", b"down"))

    def lie(request: Request, body: bytes) -> Any:
        if is_listing(request) and b"a.txt" in body:
            folders.add(item_of(request))
            return away if next(listings) < 4 else body
        if not is_download(request):
            return body
        if item_of(request) not in folders:
            return away if next(files) < 4 else body
        return (lambda c: dripping(c, body)) if next(zips) == 0 else body

    def dripping(connection: Connection, body: bytes) -> None:
        """Send a part of it in twice the time that a job waits, and break it off."""
        length = f"Content-Length: {len(body)}"
        connection.send(http("200 OK", b"", "Content-Type: application/zip", length, length=False))
        piece = len(body) // 30
        connection.drip((body[n * piece :][:piece] for n in range(20)), 0.1)

    with lying(quick, lie, outage_patience="1s") as service:
        job = run(service, quick, "a.txt", content=content)
        assert contents(zip_of(service, job)) == [content]
    assert next(files) == 4


def test_empty_files_and_an_empty_folder_are_results(quick: Quick) -> None:
    with quick.service() as service:
        assert contents(zip_of(service, run(service, quick, "a.txt", content=b""))) == [b""]
    with quick.service(data_dir=str(quick.folder / "other")) as service:
        job = run(service, quick)
        assert contents(zip_of(service, job)) == []
    assert job.result is not None
    assert job.result.notes == ("The folder holds no files.",)

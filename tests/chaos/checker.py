"""What must be true of a job that has ended, and of what is left when all have."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from canary import Search

from chaos.ground import Ground
from chaos.jobs import EXIT_CODE, Wish
from chaos.process import History
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import FaultClass, Job, JobState
from die_algorithm.results import Results, log_name
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings

#: Seconds until a left-over that nobody removes counts as one; the janitor comes round in less.
_TIDY_TIME = 10.0
_LOOK_AGAIN = 0.02
#: What a worker's own folder may hold, beside the results.
_OWN_FILES = {"worker.lock", "token.key", "jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm"}


class Sort(enum.Enum):
    """What is wrong."""

    LOSS = "lost"
    DOUBLE = "double"
    LEFT = "left over"
    LEAK = "token shown"
    #: The run itself did not go as it should: what it claims was not tried.
    VOID = "void"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    sort: Sort
    text: str


def records(settings: Settings) -> list[Job]:
    """All jobs of the database."""
    with closing(job_store(settings)) as store:
        return [job for job_id in _ids(store) if (job := store.get(job_id))]


def _ids(store: JobStore) -> Sequence[str]:
    with store._database.reading() as connection:
        return connection.execute(sa.select(JOBS.c.id)).scalars().all()


# -- each job


def check_job(
    ground: Ground, settings: Settings, wish: Wish, job: Job | None, history: History
) -> Iterator[Finding]:
    """What is wrong with an accepted job that has had its time."""
    if job is None:
        yield Finding(Sort.LOSS, "there is no record of an accepted job")
        return
    yield from _check_history(job, history)
    if job.state not in wish.ends:
        text = f"ended as {job.state.value}, wanted {wish.kind.value}: {job.failure}"
        yield Finding(Sort.LOSS, text)
        return
    yield from _check_starts(ground, job)
    match job.state:
        case JobState.SUCCEEDED:
            yield from _check_result(settings, wish, job)
        case JobState.FAILED:
            yield from _check_failure(ground, job)


def _check_history(job: Job, history: History) -> Iterator[Finding]:
    """After a final state a job has no other one."""
    states = history.states.get(job.id, [])
    finals = [number for number, state in enumerate(states) if state.is_final]
    if finals and (finals[0] != len(states) - 1 or states[-1] is not job.state):
        told = ", ".join(state.value for state in states)
        yield Finding(Sort.DOUBLE, f"its states were {told}, and now it is {job.state.value}")


def _check_starts(ground: Ground, job: Job) -> Iterator[Finding]:
    starts = ground.engine.starts().get(job.id, 0)
    if starts > 1:
        yield Finding(Sort.DOUBLE, f"{starts} containers were started")
    if starts < 1 and job.state is not JobState.DISMISSED:
        yield Finding(Sort.VOID, "it ended well without a container")


def _check_result(settings: Settings, wish: Wish, job: Job) -> Iterator[Finding]:
    assert job.result is not None
    path = Results(settings.results_path).zip_path(job)
    if not path.is_file():
        yield Finding(Sort.LOSS, "its zip is not there")
        return
    content = path.read_bytes()
    if (hashlib.sha256(content).hexdigest(), len(content)) != (job.result.sha256, job.result.size):
        yield Finding(Sort.LOSS, "its zip is not the one that its record describes")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    assert job.folder is not None
    if files != {f"{job.folder.name}/{wish.file_name}": wish.file_name.encode()}:
        yield Finding(Sort.LOSS, f"its zip holds {sorted(files)}")


def _check_failure(ground: Ground, job: Job) -> Iterator[Finding]:
    failure = job.failure
    if failure is None or (failure.fault_class, failure.exit_code) != (FaultClass.USER, EXIT_CODE):
        yield Finding(Sort.LOSS, f"it failed by something else: {failure}")
    assert job.folder is not None
    if not job.folder_kept or ground.folders().get(job.folder.name) != job.folder.id:
        yield Finding(Sort.LOSS, "the folder of a failed job was not kept, and it has written")


# -- what is left


def check_left(ground: Ground, settings: Settings, places: Sequence[Path]) -> list[Finding]:
    """What is left although all jobs have ended, and goes on being there.

    Args:
        ground: where the jobs ran.
        settings: of the service.
        places: all folders that the service writes.
    """
    deadline = time.monotonic() + _TIDY_TIME
    while (left := list(_left(ground, settings, places))) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN)
    return left


def _left(ground: Ground, settings: Settings, places: Sequence[Path]) -> Iterator[Finding]:
    jobs = records(settings)
    kept = {job.folder.name for job in jobs if job.folder and job.folder_kept and job.failure}
    things = {
        "service": list(ground.engine.services()),
        "container": ground.engine.containers(),
        "secret": ground.engine.secrets(),
        "folder": sorted(set(ground.folders()) - kept),
        "file": [path.name for place in places for path in _strange_files(place, jobs)],
    }
    for thing, names in things.items():
        for name in names:
            yield Finding(Sort.LEFT, f"{thing} {name}")
    for job in jobs:
        if job.token is not None and job.state.is_final:
            yield Finding(Sort.LEFT, "the token of an ended job")


def _strange_files(place: Path, jobs: Sequence[Job]) -> Iterator[Path]:
    known = {job.result_key: {log_name(job)} for job in jobs}
    for job in jobs:
        if job.result:
            known[job.result_key].add(job.result.name)
    for path in place.rglob("*"):
        if path.is_dir():
            strange = path.name != "results" and path.name not in known
        elif path.parent.name in known:
            strange = path.name not in known[path.parent.name]
        else:
            strange = path.name not in _OWN_FILES
        if strange:
            yield path


def check_secrecy(settings: Settings, places: Sequence[Path]) -> Iterator[Finding]:
    """Files and records that show a user's token, in any form."""
    search = Search()
    for place in places:
        yield from (Finding(Sort.LEAK, str(found)) for found in search.folder(place))
    with closing(job_store(settings)) as store, store._database.reading() as connection:
        for row in connection.execute(sa.select(JOBS.c.id, JOBS.c.record)):
            for found in search.text(row.record.encode(), f"the record of {row.id}"):
                yield Finding(Sort.LEAK, str(found))


def remove_kept(ground: Ground) -> None:
    """Remove the folders that were kept on purpose, so that the next run begins with none."""
    for item_id in ground.folders().values():
        ground.remove(item_id)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for what nobody tells; return whether it came to be."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN)
    return True

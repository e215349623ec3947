"""What must hold when all is back and quiet, and all jobs have ended."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Sequence

from service_process import Answer, Look, Submit
from storagehub_fixture import HubUser

from die_algorithm.models import Job, JobState
from die_algorithm.results import Results
from job_life.outcomes import Facts, allowed, is_allowed, outcome
from job_life.tickets import Fate, Program, Ticket
from job_life.world import USERS, World, wait_until

_JobOf = dict[str, tuple[Ticket, Job]]


def check_all(world: World, tickets: Sequence[Ticket]) -> None:
    """Check it; the service is stopped afterwards."""
    jobs = _jobs(world, tickets)
    engine = world.engine
    wait_until(lambda: not (engine.services() or engine.alive()))
    assert not engine.services(), "services are left"
    assert not engine.alive(), "containers are left"
    _check_outcomes(world, jobs)
    _check_results(world, jobs)
    for user in USERS:
        _check_folders(world, jobs, user)
    world.stop_service()
    _check_traces(world)


def _jobs(world: World, tickets: Sequence[Ticket]) -> _JobOf:
    assert world.service is not None
    jobs = {}
    for ticket in tickets:
        assert ticket.fate is not Fate.UNCLEAR or ticket.job_id is None
        if ticket.job_id:
            answer = world.service.call(Look(ticket.job_id))
            assert isinstance(answer, Answer), answer
            jobs[ticket.job_id] = (ticket, answer.job)
    return jobs


def _check_outcomes(world: World, jobs: _JobOf) -> None:
    starts = Counter(start.job_id for start in world.engine.starts)
    assert set(starts) <= set(jobs), "something ran that is no job"
    for job_id, (ticket, job) in jobs.items():
        ends = [end for end in world.engine.ends if end.job_id == job_id]
        facts = Facts(starts[job_id], ends)
        assert is_allowed(job, ticket, facts), (
            f"{ticket} ended as {outcome(job)}: {job.failure}; with {facts} it may end as one of "
            f"{allowed(ticket, facts)}"
        )


def _check_results(world: World, jobs: _JobOf) -> None:
    results = Results(world.settings.results_path)
    expected = {job.result_key: job for _, job in jobs.values()}
    for path in world.published():
        job = expected[path.parts[0]]
        names = [f"die-{job.id}.log"]
        names += [job.result.name] if job.result else []
        assert path.name in names, f"{path} is left"
    for ticket, job in jobs.values():
        assert (job.result is not None) == (job.state is JobState.SUCCEEDED)
        if job.result is not None:
            path = results.zip_path(job)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == job.result.sha256
            with zipfile.ZipFile(path) as archive:
                content = [archive.read(n) for n in archive.namelist() if not n.endswith("/")]
            written = [ticket.word.encode()] if ticket.program is Program.WRITE else []
            assert content == written, f"{ticket} has another result"


def _check_folders(world: World, jobs: _JobOf, user: HubUser) -> None:
    """A folder is left on purpose, or because StorageHub was away: then the next job removes it."""
    folders = world.folders(user)
    for name in folders:
        ticket, job = jobs[name.removeprefix("die-")]
        assert _is_kept(job) or ticket.storagehub_was_away, f"the folder of {ticket} is left"
    if any(not _is_kept(jobs[name.removeprefix("die-")][1]) for name in folders):
        world.note(f"a last job of {user.name} removes what is left: {list(folders)}")
        _run_one_more(world, user)
        folders = world.folders(user)
    for name, content in folders.items():
        ticket, job = jobs[name.removeprefix("die-")]
        assert _is_kept(job), f"the folder of {ticket} is left for ever"
        assert content or ticket.storagehub_was_away, f"the empty folder of {ticket} is left"
    for ticket, job in jobs.values():
        failed = ticket.program is Program.WRITE_AND_FAIL and job.exit_code == 5
        if ticket.user is user and failed and job.state is JobState.FAILED:
            assert job.folder_kept, f"nobody knows of the folder of {ticket}"
            assert folders.get(job.folder_name) == ["out.txt"], f"the folder of {ticket} is lost"


def _is_kept(job: Job) -> bool:
    return job.state is JobState.FAILED and job.folder_kept


def _run_one_more(world: World, user: HubUser) -> None:
    assert world.service is not None
    service = world.service
    call = Submit(
        token=user.token,
        image=Program.NOOP.image,
        command="probe noop ticket-last",
        item=world.items[user],
    )
    answer = service.call(call)
    assert isinstance(answer, Answer), answer
    job_id = answer.job.id
    assert wait_until(lambda: service.look(job_id).state.is_final), "the last job has not ended"


def _check_traces(world: World) -> None:
    """Nothing went wrong that nobody foresaw, and no token was written down."""
    log = world.log
    assert "Traceback" not in log, "the log tells of an error that nobody foresaw"
    files = [path for path in world.settings.data_dir.rglob("*") if path.is_file()]
    for user in USERS:
        assert user.token not in log, "the log holds a token"
        for path in files:
            assert user.token.encode() not in path.read_bytes(), f"{path.name} holds a token"

"""Jobs for tests: complete and valid, changed as a test needs."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta

from die_algorithm.models import (
    Failure,
    FaultClass,
    Folder,
    Job,
    JobRequest,
    JobState,
    ResponseForm,
    ResultFile,
    UserToken,
)

IMAGE = "docker.io/d4science/sortapp:latest"
TOKEN = "a1b2c3d4-0000-4000-8000-canary000000-843339462"
ACCEPTED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

_WAY = (
    JobState.ACCEPTED,
    JobState.STAGED_IN,
    JobState.DISPATCHED,
    JobState.RUNNING,
    JobState.STAGING_OUT,
)


def make_job(
    *,
    image: str = IMAGE,
    command: tuple[str, ...] = ("sortapp",),
    item_id: str = "item-0001",
    state: JobState = JobState.STAGED_IN,
    **changes: object,
) -> Job:
    """A job that is staged in, with a new id; in another state, with what it has there.

    Args:
        image: the image reference, canonical.
        command: its words.
        item_id: the item's.
        state: reached a second after the one before it.
        changes: any other fields of the job.
    """
    way = (*_WAY, state) if state.is_final else _WAY[: _WAY.index(state) + 1]
    job_id = str(changes.pop("id", uuid.uuid4()))
    job = Job(
        id=job_id,
        owner="alice",
        request=make_request(
            image=image,
            command=command,
            item_id=item_id,
            given_image=image,
            given_command=" ".join(command),
            given_item=item_id,
        ),
        response_form=ResponseForm(),
        state=state,
        reached={passed: ACCEPTED_AT + timedelta(seconds=n) for n, passed in enumerate(way)},
        result_key="0" * 32,
        token=None if state.is_final else UserToken(TOKEN),
        folder=None
        if state is JobState.ACCEPTED
        else Folder(id="folder-0001", name=f"die-{job_id}", path=f"/Home/alice/die-{job_id}"),
        failure=Failure(fault_class=FaultClass.USER, text="The program failed.")
        if state is JobState.FAILED
        else None,
        result=ResultFile(name=f"die-{job_id}.zip", size=1234, sha256="ab" * 32, files=2)
        if state is JobState.SUCCEEDED
        else None,
    )
    return dataclasses.replace(job, **changes)  # type: ignore[arg-type]


def make_request(**changes: object) -> JobRequest:
    """What a researcher asks for."""
    request = JobRequest(
        image=IMAGE,
        command=("sortapp",),
        item_id="item-0001",
        item_parameter="FileParam",
        given_image="d4science/sortapp",
        given_command="sortapp",
        given_item="item-0001",
    )
    return dataclasses.replace(request, **changes)  # type: ignore[arg-type]

"""What the doors may ask for: submit a job, look at it, wait for it, cancel it.

The engine has no access to Docker; what happens to a job after its record is committed is the
business of :mod:`die_algorithm.steps`, driven by :mod:`die_algorithm.worker`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from die_algorithm.callers import Callers, owns, was_submitted_with
from die_algorithm.credentials import check_validity, holds
from die_algorithm.errors import (
    FileSizeExceeded,
    ImageNotFound,
    ImageUnusable,
    InvalidParameterValue,
    KeyReused,
    NotFound,
    QueueFull,
    ServerBusy,
    ServiceUnavailable,
    StoreError,
    StoreUnavailable,
    TooManyRequests,
)
from die_algorithm.fail_points import FailPoints, Point
from die_algorithm.given_items import GivenItems
from die_algorithm.image_reference import ImageReference
from die_algorithm.images import Images
from die_algorithm.inline_content import holds_token
from die_algorithm.job_options import IDEMPOTENCY_KEY, JobOptions
from die_algorithm.job_request import IMAGE, parse_job_request
from die_algorithm.job_store import JobStore
from die_algorithm.models import (
    JOB_ID,
    ImageFacts,
    InputContent,
    Job,
    JobRequest,
    JobState,
    ListedJob,
    ResponseForm,
    UserToken,
)
from die_algorithm.public_links import PublicLinks
from die_algorithm.questions import Questions
from die_algorithm.rate_limits import RateLimits
from die_algorithm.results import new_result_key
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub
from die_algorithm.sync_places import SyncPlaces
from die_algorithm.waiters import Waiters

LOGGER = logging.getLogger(__name__)

#: Each input's values by its name, as the client wrote them.
Inputs = Mapping[str, Sequence[str | InputContent]]

#: Seconds until a waiter looks again at a database that could not be read.
_STORE_PAUSE = 0.2
#: How often a waiter looks whether its client is still there.
_LOOK_FOR_CLIENT = 2.0
#: Seconds for which the order of the queue is kept.
_PLACES_KEPT = 1.0
#: Seconds for which a waiter bears with a database that cannot be read.
_STORE_PATIENCE = 60.0


@dataclasses.dataclass(frozen=True)
class _Asked:
    """An Execute that can be read, of a user who is known."""

    request: JobRequest
    owner: str
    token: UserToken
    form: ResponseForm
    options: JobOptions
    content: InputContent | None = dataclasses.field(repr=False)


class Engine:
    """Accepts jobs and answers for them.

    Args:
        settings: the operator's.
        store: the jobs' records.
        storagehub: to ask whose token it is, and whether the item can be used.
        public_links: to ask whether a link can.
        images: which images there are, and may be run.
        fail_points: where to die on purpose.
        on_token: called with each token that comes with a request, before anything is done with it.
        on_accepted: called with each that StorageHub has accepted.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storagehub: StorageHub,
        public_links: PublicLinks,
        *,
        images: Images,
        fail_points: FailPoints | None = None,
        on_token: Callable[[UserToken], None] = lambda _token: None,
        on_accepted: Callable[[UserToken], None] = lambda _token: None,
    ) -> None:
        self._on_token = on_token
        self._fail_points = fail_points or FailPoints()
        self._settings = settings
        self._store = store
        self._storagehub = storagehub
        questions = Questions(settings.threads - settings.max_sync)
        self._callers = Callers(settings, storagehub, questions, on_accepted)
        self._items = GivenItems(storagehub, public_links, questions)
        self._images = images
        self._executes = RateLimits(settings.max_executes_per_minute)
        #: Called after a job was accepted or its cancel noted, to wake a worker of this process.
        self.on_submit: Callable[[], None] = lambda: None
        #: Called with the id of a job that the worker of this process has ended.
        self.on_end: Callable[[str], None] = lambda _job_id: None
        self._closing = threading.Event()
        self._waiters = Waiters(store.ended)
        self._places: Mapping[str, int] = {}
        self._places_until = 0.0
        self._places_lock = threading.Lock()
        self._sync_places = SyncPlaces(settings.max_sync)

    @property
    def is_closing(self) -> bool:
        """Whether the service stops: no job is accepted, and nobody waits for one."""
        return self._closing.is_set()

    def close(self) -> None:
        """Accept no more jobs and let all waiters return at once. The jobs are not touched."""
        self._closing.set()
        self._waiters.close()

    def check_admins(self) -> None:
        """See that the administrators' file can be used: whoever answers requests must, before the first.

        Raises:
            SettingsError: it cannot be read, or a line of it is no digest.
        """
        self._callers.check_admins()

    def submit(
        self,
        inputs: Inputs,
        token: UserToken,
        form: ResponseForm,
        options: JobOptions | None = None,
    ) -> Job:
        """Check a request and accept it. Nothing is created anywhere unless all of it is right.

        Args:
            inputs: each input's values by its name, as the client wrote them.
            token: the caller's.
            form: how the client wants its answer.
            options: what the client asks for beside the process's inputs.

        Returns:
            The job, its record committed; the former one if the idempotency key is known.

        Raises:
            RequestError: the request is refused; says why, and which parameter is at fault.
        """
        return self._accepted(self._asked(inputs, token, form, options))

    def _asked(
        self,
        inputs: Inputs,
        token: UserToken,
        form: ResponseForm,
        options: JobOptions | None,
    ) -> _Asked:
        self._on_token(token)
        self._check_open()
        with self._fail_points.around(Point.REQUEST_PARSED):
            request = self._parsed(inputs, token)
            check_validity(token, datetime.now(UTC))
        owner = self._callers.owner(token)
        return _Asked(request, owner, token, form, options or JobOptions(), _content(inputs))

    def _accepted(self, asked: _Asked) -> Job:
        if former := self._former(asked):
            return former
        self._check_rate(asked.owner)
        # After that: it costs the more the larger the content is.
        if asked.content and holds_token(asked.content, asked.token):
            raise _token_within(asked.request.item_parameter)
        job = self._new_job(asked)
        # Again: a slow StorageHub may have outlasted the client, and would leave it without its job's id.
        self._check_open()
        with self._fail_points.around(Point.ACCEPTED):
            added = self._add(job, asked.options, asked.content.data if asked.content else None)
        if added.id != job.id:
            return _same_request(added, job.request)
        LOGGER.info(
            "Job %s accepted: image %s %s, owner %s.",
            job.id,
            job.request.image,
            job.digest or "",
            job.owner,
        )
        self.on_submit()
        return job

    def _new_job(self, asked: _Asked) -> Job:
        owner, token = asked.owner, asked.token
        image = ImageReference.recorded(asked.request.image)
        self._images.check(image, owner, token.vre)
        request = self._items.found(asked.request, token, owner)
        facts = self._facts(image)
        return Job(
            id=str(uuid.uuid4()),
            owner=owner,
            vre=token.vre,
            digest=facts.digest if facts else None,
            token_file=facts.wants_token_file if facts else False,
            request=request,
            response_form=asked.form,
            state=JobState.ACCEPTED,
            reached={JobState.ACCEPTED: datetime.now(UTC)},
            result_key=new_result_key(),
            token=token,
            token_expires_at=token.validity.until,
            deadlines=asked.options.deadlines or self._settings.deadlines,
        )

    def _check_rate(self, owner: str) -> None:
        if seconds := self._executes.take(owner):
            raise TooManyRequests(
                f"You have submitted more than {self._settings.max_executes_per_minute} jobs within a "
                f"minute. Nothing was started; go on in {seconds} s.",
                seconds,
            )

    def _parsed(self, inputs: Inputs, token: UserToken) -> JobRequest:
        settings = self._settings
        request = parse_job_request(
            inputs, settings.storagehub_url, settings.trusted_links, self._images.registries
        )
        if request.content and request.content.size > settings.max_request_size:
            raise FileSizeExceeded(
                f"The content is larger than {settings.max_request_size} bytes. Put the file into your "
                "workspace and give its id or path.",
                request.item_parameter,
            )
        for name, values in inputs.items():
            if any(isinstance(value, str) and holds(value, token) for value in values):
                raise _token_within(name)
        return request

    def _facts(self, image: ImageReference) -> ImageFacts | None:
        """What the reference means at this moment; None if the registry does not say: the job waits.

        Raises:
            InvalidParameterValue: there is no such image that can be run.
            ImageForbidden: what it means may not be run.
        """
        try:
            facts = self._images.try_to_resolve(image)
        except (ImageNotFound, ImageUnusable) as error:
            raise InvalidParameterValue(str(error), IMAGE) from None
        if facts is not None:
            self._images.check_resolved(image, facts)
        return facts

    def _former(self, asked: _Asked) -> Job | None:
        """The job that was accepted for the same idempotency key."""
        key = asked.options.idempotency_key
        if key is None:
            return None
        try:
            former = self._store.with_key(asked.owner, key)
        except StoreError as error:
            raise _store_away() from error
        return None if former is None else _same_request(former, asked.request)

    def _add(self, job: Job, options: JobOptions, content: bytes | None) -> Job:
        key = options.idempotency_key
        try:
            return self._store.add(job, idempotency_key=key, content=content)
        except QueueFull as error:
            raise ServerBusy(f"{error} Submit this one again in a few minutes.", 60) from None
        except StoreUnavailable as error:
            LOGGER.error("A job could not be recorded: %s", error.reason)  # noqa: TRY400
            raise ServiceUnavailable(str(error)) from None

    def _check_open(self) -> None:
        if self.is_closing:
            raise ServiceUnavailable(
                "The service is stopping and takes no more jobs. Nothing was started; try again in a "
                "minute."
            )

    def job(self, job_id: str) -> Job:
        """Look up a job.

        Raises:
            NotFound: there is none of this id.
            ServiceUnavailable: the database cannot be read now.
        """
        job = self._look_up(job_id)
        if job is None:
            raise _no_such_job()
        return job

    def _look_up(self, job_id: str) -> Job | None:
        try:
            return self._store.get(job_id) if JOB_ID.fullmatch(job_id) else None
        except StoreError as error:
            LOGGER.error("A job could not be looked up: %s", error.reason)  # noqa: TRY400
            raise _store_away() from error

    def place_in_queue(self, job: Job) -> int | None:
        """How many jobs get a place before a waiting one; None if it does not wait, or nobody knows.

        The answer may be a second old: that is cheaper than to ask for each of many who poll.
        """
        if job.is_admitted or job.state is not JobState.ACCEPTED:
            return None
        with self._places_lock:
            if time.monotonic() > self._places_until:
                try:
                    self._places = self._store.queue.places()
                except StoreError:
                    self._places = {}
                self._places_until = time.monotonic() + _PLACES_KEPT
            return self._places.get(job.id)

    def owned_job(self, job_id: str, token: UserToken) -> Job:
        """Look up a job of the token's owner to do something to it; an administrator may with any job.

        Another's answers like one that does not exist. StorageHub is asked whose the token is, but one
        that is away keeps nobody from a job under way with the token that it was submitted with.

        Raises:
            NotFound: there is none of this id, or it is another user's.
            NotAuthorized: the token is not accepted, or says of itself that it is not valid.
            TooManyRequests: as for :meth:`Callers.owner`.
            ServiceUnavailable: StorageHub, or the database, cannot be asked now.
        """
        self._on_token(token)
        check_validity(token, datetime.now(UTC))
        job = self._look_up(job_id)
        if job is None or not was_submitted_with(job, token):
            return self._owned(job, token, self._callers.owner)
        try:
            return self._owned(job, token, self._callers.owner_in_time)
        except ServiceUnavailable:
            return job

    def seen_job(self, job_id: str, token: UserToken) -> Job:
        """Look up a job of the token's owner to show it: as :meth:`owned_job`, but without a question.

        Whose token it is may have been answered up to a minute ago. The token that a job under way was
        submitted with shows it until its end, whatever has become of the token.
        """
        self._on_token(token)
        job = self._look_up(job_id)
        if job and was_submitted_with(job, token):
            return job
        return self._owned(job, token, self._callers.owner_of_late)

    def _owned(self, job: Job | None, token: UserToken, ask: Callable[[UserToken], str]) -> Job:
        owner = None if self._callers.is_admin(token) else ask(token)
        if job is None or (owner is not None and not owns(job, owner)):
            raise _no_such_job()
        return job

    def latest_jobs(self, token: UserToken, most: int) -> tuple[list[ListedJob], bool]:
        """The newest jobs of the token's owner, or of everybody for an administrator.

        Args:
            token: the caller's.
            most: how many at most.

        Returns:
            The jobs, the newest first, and whether they are everybody's.

        Raises:
            NotAuthorized, TooManyRequests, ServiceUnavailable: as for :meth:`owned_job`.
        """
        self._on_token(token)
        is_admin = self._callers.is_admin(token)
        owner = None if is_admin else self._callers.owner_of_late(token)
        try:
            return self._store.latest(owner, most), is_admin
        except StoreError as error:
            LOGGER.error("Jobs could not be listed: %s", error.reason)  # noqa: TRY400
            raise _store_away() from error

    def is_anothers(self, job_id: str, token: UserToken) -> bool:
        """Whether a job is known to be of another user than the token.

        What cannot be found out within seconds is no reason to refuse a result to who has its address,
        which opens it without any token.
        """
        self._on_token(token)
        try:
            job = self._look_up(job_id)
        except ServiceUnavailable:
            return False
        if job is None or was_submitted_with(job, token) or self._callers.is_admin(token):
            return False
        owner = self._callers.known_in_time(token)
        return owner is not None and not owns(job, owner)

    def cancel(self, job_id: str, token: UserToken) -> Job:
        """Note that a job is to be stopped. An ended job stays as it ended.

        Raises:
            NotFound, NotAuthorized, TooManyRequests: as for :meth:`owned_job`.
            ServiceUnavailable: as there, or the cancel cannot be noted now.
        """
        job = self.owned_job(job_id, token)
        try:
            self._store.request_cancel(job.id)
        except StoreError as error:
            raise _store_away() from error
        LOGGER.info("Job %s: cancel requested.", job.id)
        self.on_submit()
        return job

    def run_to_end(
        self,
        inputs: Inputs,
        token: UserToken,
        form: ResponseForm,
        options: JobOptions | None = None,
        *,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Job:
        """Submit a job and wait for its end, within the limits on requests that wait.

        Args:
            inputs: as for :meth:`submit`, like the next three.
            token: the caller's.
            form: how the client wants its answer.
            options: what the client asks for beside the process's inputs.
            is_gone: whether the client has left; the job goes on without it.

        Returns:
            The job. It has not ended if the client has left or the engine is closing.

        Raises:
            RequestError: as for :meth:`submit`.
            ServerBusy: too many wait already, in all or of the token's owner; nothing was submitted.
        """
        # Whose it is comes first: nobody's token takes a place.
        asked = self._asked(inputs, token, form, options)
        with self._sync_places.held_by(asked.owner):
            job = self._accepted(asked)
            while not (job.state.is_final or is_gone() or self.is_closing):
                job = self._wait_patiently(job)
        return job

    def _wait_patiently(self, job: Job) -> Job:
        """Wait a moment; a database that cannot be read for a minute is no end of the job."""
        deadline = time.monotonic() + _STORE_PATIENCE
        while True:
            try:
                return self.wait(job.id, _LOOK_FOR_CLIENT)
            except ServiceUnavailable as error:
                if self.is_closing:
                    return job
                if time.monotonic() > deadline:
                    raise ServiceUnavailable(
                        f"The job {job.id} was accepted and goes on, but its record cannot be read at "
                        "the moment. Ask for its status later; do not submit it again."
                    ) from error
                time.sleep(_STORE_PAUSE)

    def wait(self, job_id: str, timeout: float) -> Job:
        """Wait until a job has ended.

        Args:
            job_id: the job's id.
            timeout: seconds at most.

        Returns:
            The job as it is then; after a time-out, or when the engine closes, it may be unfinished.
        """
        try:
            self._waiters.wait(job_id, timeout)
        except StoreError as error:
            LOGGER.error("A job could not be looked up: %s", error.reason)  # noqa: TRY400
            raise _store_away() from error
        return self.job(job_id)

    def notify(self, job_id: str) -> None:
        """Tell the waiters that a job has ended. A hint: the database has the truth."""
        self._waiters.notify(job_id)
        self.on_end(job_id)


def _same_request(former: Job, request: JobRequest) -> Job:
    if former.request.as_asked != request.as_asked:
        raise KeyReused(
            "Another request was sent with this idempotency key before. Use a new key for each job.",
            IDEMPOTENCY_KEY,
        )
    LOGGER.info("Job %s: submitted again with its idempotency key.", former.id)
    return former


def _content(inputs: Inputs) -> InputContent | None:
    """The file that was sent inline, if any."""
    contents = (value for values in inputs.values() for value in values)
    return next((each for each in contents if isinstance(each, InputContent)), None)


def _token_within(name: str) -> InvalidParameterValue:
    """Why an input is not taken: it would be stored and shown with the others."""
    return InvalidParameterValue(
        f"{name} holds your token. The container gets it anyway; leave it out.", name
    )


def _no_such_job() -> NotFound:
    return NotFound("There is no job of this id, or it has expired.")


def _store_away() -> ServiceUnavailable:
    return ServiceUnavailable(
        "The job's record cannot be used at the moment; try again in a minute."
    )

"""Who asks: the user whose token came with a request, or an administrator."""

from __future__ import annotations

import contextvars
import hmac
import queue
import threading
from collections.abc import Callable

from die_algorithm.admin_tokens import AdminTokens
from die_algorithm.credentials import holds
from die_algorithm.errors import (
    ItemUnusable,
    NotAuthorized,
    RequestError,
    ServiceUnavailable,
    StorageHubError,
    TokenNotAccepted,
    TokenRejected,
    TooManyRequests,
)
from die_algorithm.models import Job, UserToken
from die_algorithm.owners import Owners
from die_algorithm.questions import Questions, storagehub_away
from die_algorithm.rate_limits import RateLimits
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub

#: Seconds that a download, or a cancel, waits for the answer to the question whose token came with it.
_PATIENCE = 3.0


class Callers:
    """Tells who sends a token. It may be used by several threads.

    Args:
        settings: the operator's.
        storagehub: to ask whose token it is.
        questions: how many may wait for StorageHub's answer at once.
        on_accepted: called with each token that StorageHub has accepted.
    """

    def __init__(
        self,
        settings: Settings,
        storagehub: StorageHub,
        questions: Questions,
        on_accepted: Callable[[UserToken], None],
    ) -> None:
        self._storagehub = storagehub
        self._questions = questions
        self._on_accepted = on_accepted
        self._owners = Owners(self._ask)
        self._admins = AdminTokens(settings.admin_tokens_file)
        self._refused_tokens = RateLimits(settings.max_refused_tokens_per_minute)

    def check_admins(self) -> None:
        """See that the administrators' file can be used, before the first request is answered.

        Raises:
            SettingsError: it cannot.
        """
        self._admins.check()

    def is_admin(self, token: UserToken) -> bool:
        """Whether it is an administrator's token, which opens all jobs and no workspace."""
        return self._admins.hold(token)

    def owner(self, token: UserToken) -> str:
        """Ask StorageHub whose token it is: the owner of the workspace that it opens.

        Raises:
            NotAuthorized: nobody's, an administrator's, or not that of the user whom HTTP Basic named.
            TooManyRequests: its sender has sent too many that are nobody's, and this one is new here.
            ServiceUnavailable: StorageHub cannot be asked now.
        """
        return self._accepted(self._owners.now(token), token)

    def owner_of_late(self, token: UserToken) -> str:
        """As :meth:`owner`; what StorageHub has said within the last minute holds."""
        return self._accepted(self._owners.of_late(token), token)

    def owner_in_time(self, token: UserToken) -> str:
        """As :meth:`owner`, within seconds: a StorageHub that hangs counts as one that is away."""
        return self._accepted(_in_time(self._owners.now, token), token)

    def known_in_time(self, token: UserToken) -> str | None:
        """As :meth:`owner_of_late`, within seconds; None if that cannot be found out."""
        try:
            return _in_time(self._owners.of_late, token)
        except RequestError:
            return None

    def _accepted(self, owner: str | None, token: UserToken) -> str:
        if owner is None:
            raise TokenNotAccepted(
                "StorageHub does not accept the user token: it is wrong, expired, or of another "
                "infrastructure. Get a new one from your VRE's home page."
            )
        if token.username and not _is_same(token.username, owner):
            raise TokenNotAccepted("The user token belongs to another user than the one named.")
        self._on_accepted(token)
        return owner

    def _ask(self, token: UserToken) -> str | None:
        if self._admins.have_held(token):
            raise NotAuthorized(
                "This is an administrator's token, which opens no workspace. Send a user's token."
            )
        seconds = self._refused_tokens.wait(token.sender)
        # All users behind a proxy that is not trusted are one sender: guesses must not shut them out.
        if seconds and not self._owners.was_somebodys(token):
            raise TooManyRequests(
                "Too many user tokens that StorageHub does not accept came from your address, so this one "
                f"was not looked at. Nothing was started or changed; try again in {seconds} s.",
                seconds,
            )
        try:
            with self._questions.to_storagehub():
                root = self._storagehub.workspace_root(token)
        except (TokenRejected, ItemUnusable):
            self._refused_tokens.take(token.sender)
            return None
        except StorageHubError:
            raise storagehub_away() from None
        if not _is_text(root.owner) or holds(root.owner, token):
            raise ServiceUnavailable(
                "StorageHub names the owner of this user token in characters that are none, so the "
                "request cannot be checked. Nothing was started or changed; tell StorageHub's operator."
            )
        return root.owner


def _in_time(ask: Callable[[UserToken], str | None], token: UserToken) -> str | None:
    """Ask in a thread of its own: a StorageHub that hangs must hold up neither a download nor a cancel.

    Raises:
        RequestError: what the question has raised.
        ServiceUnavailable: there is no answer within seconds.
    """
    answers: queue.SimpleQueue[str | RequestError | None] = queue.SimpleQueue()

    def put_answer() -> None:
        try:
            answers.put(ask(token))
        except RequestError as error:
            answers.put(error)

    # What it logs is of this request, too (see ``token_mask``).
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(put_answer,), name="die-owner", daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE)
    except queue.Empty:
        raise storagehub_away() from None
    if isinstance(answer, RequestError):
        raise answer
    return answer


def owns(job: Job, owner: str) -> bool:
    """Whether a job is a user's."""
    return _is_same(job.owner, owner)


def was_submitted_with(job: Job, token: UserToken) -> bool:
    """Whether it is the very token that a job still has."""
    if job.token is None or token.username not in (None, job.owner):
        return False
    return _is_same(job.token.secret, token.secret)


def _is_text(text: str) -> bool:
    """Whether it is made of whole characters: JSON can hold halves of one."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())

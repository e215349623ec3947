"""waitress, started and stopped: one loop for all connections, a thread only while one is answered."""

from __future__ import annotations

import contextlib
import functools
import re
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import WSGITask
from waitress.utilities import Error as HttpError

from die_algorithm.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Idle and slow connections cost a socket each; this many are held.
_CONNECTIONS = 8192
#: How many may wait to be accepted.
_BACKLOG = 1024
#: Seconds in which the headers of a request must have come since its first byte.
_HEADERS_WITHIN = 12.0
#: Bytes a second that a body must come with, beside the pause that it may make.
_BODY_RATE = 1024
#: Seconds between two looks for requests that do not come, and for silent connections.
_LOOK_FOR_LATE = 1
#: Seconds for which a server that stops answers what is under way.
GRACE = 20.0
#: Seconds in which a request may still arrive on a connection that was open when the stop began: its
#: client may have sent it before it could know.
_MOMENT = 0.5
#: Seconds between two looks at what is left, when stopping.
_LOOK = 0.05


class _Task(WSGITask):
    """Answers a request, and says so if it was the connection's last."""

    def build_response_header(self) -> bytes:
        # Nobody may think, just before the first bytes are sent, that the client has read none for long.
        self.channel.last_activity = time.time()
        if not self.channel.server.accepting or self._leaves_much:
            # waitress makes of it what the client's version of HTTP wants.
            self.request.headers["CONNECTION"] = "close"
        return bytes(super().build_response_header())

    @property
    def _leaves_much(self) -> bool:
        """Whether so much is to be sent that waitress begins no further answer before some has gone.

        A thread waits for that, as long as the client likes, where the next request is there already.
        """
        unsent = self.channel.total_outbufs_len + (self.content_length or 0)
        return bool(unsent > self.channel.adj.outbuf_high_watermark)


class RequestLate(HttpError):
    """A request did not come to its end in time (RFC 9110, 15.5.9)."""

    code = 408
    reason = "Request Timeout"


class Channel(HTTPChannel):
    """One connection: reads its requests, and sends the answers."""

    task_class = _Task
    #: Seconds for which a body may pause.
    body_pause = 120.0
    request: Any = None
    #: When the first byte of the request that is being read came.
    began = 0.0
    #: Since when it may take its time, and when the last of it came so far.
    _due_since = 0.0
    _came = 0.0

    #: Whether the client has said that it sends no more; it may still read (RFC 9112, 9.6).
    _has_said_all = False

    def readable(self) -> bool:
        """Whether to look for more: not while those are answered who have said all they had to say."""
        return not (self._has_said_all and self.requests) and bool(super().readable())

    def handle_read(self) -> None:
        """Read; the end of what a client sends is no reason not to answer it."""
        if self.requests and self._is_at_the_end:
            self._has_said_all = True
        else:
            super().handle_read()

    def check_client_disconnected(self) -> bool:
        """Whether the client has left, or may have: who leaves says no more either."""
        return self._has_said_all or bool(super().check_client_disconnected())

    @property
    def _is_at_the_end(self) -> bool:
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False

    def received(self, data: bytes) -> bool:
        """Take what the client has sent."""
        before = self.request
        taken = bool(super().received(data))
        self._came = time.monotonic()
        if self.request is not before:
            self.began = self._due_since = self._came
        return taken

    def refuse_late(self) -> None:
        """Give up a request that does not come to its end, so that it holds no connection for ever.

        Called by the server's own thread now and then.
        """
        with self.requests_lock:
            if self._is_late():
                self._give_up()

    def refuse_body(self) -> None:
        """Give up a request whose body is not whole yet; called as :meth:`refuse_late` is."""
        with self.requests_lock:
            if self.unfinished:
                self._give_up()

    def _give_up(self) -> None:
        late, self.request = self.request, None
        late.close()  # what came of its body: the answer may have to wait for the one before
        if not late.headers_finished:
            # Something that can be answered, as waitress does with headers that are too long.
            late.parse_header(b"GET / HTTP/1.0\r\n")
        late.error = RequestLate("The request did not come to its end.")
        late.completed = True
        self.requests.append(late)
        if len(self.requests) == 1:
            # Otherwise waitress goes on to it from the one before.
            self.server.add_task(self)

    @property
    def unfinished(self) -> int:
        """Bytes that have come of a body that is not whole."""
        return 0 if self.request is None else int(self.request.body_bytes_received)

    @property
    def unsent(self) -> int:
        """Bytes of answers that are held for the client, files aside: those lie on the disk anyhow."""
        return sum(
            len(each) for each in tuple(self.outbufs) if isinstance(each, OverflowableBuffer)
        )

    def _is_late(self) -> bool:
        now = time.monotonic()
        if self.requests or self.total_outbufs_len:
            # It may wait for the answer to the one before.
            self._due_since = self._came = now
        if self.request is None:
            return False
        age = now - self._due_since
        if not self.request.headers_finished:
            return age > _HEADERS_WITHIN
        due = self.body_pause + self.request.body_bytes_received / _BODY_RATE
        return now - self._came > self.body_pause or age > due

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way: its headers are in, and its answer is not all sent."""
        # In this order: the answer is in the buffers before its request is taken off the list.
        is_answered = bool(self.requests) or self.total_outbufs_len > 0
        return is_answered or (self.request is not None and self.request.headers_finished)

    @property
    def has_unread(self) -> bool:
        """Whether the client has sent something that was not read yet."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


class HttpServer:
    """A WSGI application behind sockets.

    What a proxy says of the client (``X-Forwarded-…``) is left in the headers, for the application to
    believe or not; the server itself believes none of it.

    Args:
        application: what answers.
        listen: where, each ``address:port``; port 0 takes a free one.
        threads: how many requests are answered at once.
        channel: what reads requests off a connection.
        most_unfinished: bytes of all bodies together that are not whole; None: any number. Beyond them
            those that have taken longest are given up: an honest client's body is whole soon.
        most_unsent: bytes of all answers together, files aside, that wait for their clients; None: any
            number. Beyond them the connections are closed whose clients have read nothing for longest.
        options: further adjustments of waitress.

    Raises:
        SettingsError: an address cannot be listened on.
    """

    def __init__(
        self,
        application: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]],
        listen: Sequence[str],
        *,
        threads: int,
        channel: type[Channel] = Channel,
        most_unfinished: int | None = None,
        most_unsent: int | None = None,
        **options: object,
    ) -> None:
        with contextlib.ExitStack() as undo:
            listeners = [undo.enter_context(_listener(address)) for address in listen]
            # All went well: the server closes the sockets from here on.
            undo.pop_all()
        self._most_unfinished = most_unfinished
        self._most_unsent = most_unsent
        self._sockets: dict[int, Any] = {}
        self._left: list[Any] = []
        self._server = create_server(
            application,
            map=self._sockets,
            sockets=listeners,
            threads=threads,
            connection_limit=_connection_limit(),
            backlog=_BACKLOG,
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=False,
            ident=None,
            cleanup_interval=_LOOK_FOR_LATE,
            **options,
        )
        self._listeners = [s for s in self._sockets.values() if isinstance(s, BaseWSGIServer)]
        for listener in self._listeners:
            listener.channel_class = channel
            listener.handle_accept = functools.partial(_accept_waiting, listener)
            listener.maintenance = functools.partial(self._look_after, listener)
        self._thread = threading.Thread(target=self._server.run, name="http-server", daemon=True)
        self._stopping = threading.Lock()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports that are listened on."""
        return [(item.effective_host, int(item.effective_port)) for item in self._listeners]

    def start(self) -> None:
        """Answer in the background from now on."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the server is stopped."""
        self._thread.join()

    def listen_no_more(self) -> None:
        """Accept no new connection: from now on others can listen at the addresses.

        Those that are open get their answers, and each answer closes its connection.
        """
        self._in_loop(self._close_listeners)

    def stop(self, grace: float = GRACE) -> None:
        """Answer what is under way, then close all connections and end all threads.

        Args:
            grace: seconds for requests whose headers are in to be read and answered, and for the answers
                to be taken. What is left then is cut; a thread that hangs is left behind 5 s later.
        """
        with self._stopping:
            if self._thread.is_alive():
                self._drain(grace)
                # The clients' sockets go first, so that no answer is waiting to be taken; the rest
                # when no thread needs it to end its work.
                self._in_loop(self._close_clients)
                self._listeners[0].task_dispatcher.shutdown()
                self._listeners[0].trigger.pull_trigger(self._let_go)
                self._thread.join()
            for left in self._left or list(self._sockets.values()):
                left.close()

    def _drain(self, grace: float) -> None:
        """Wait until all clients have got their answers, or the grace is over."""
        begin = now = time.monotonic()
        self.listen_no_more()
        while now < begin + grace and any(item.active_channels for item in self._listeners):
            if now >= begin + _MOMENT:
                self._in_loop(self._close_idle)
            time.sleep(_LOOK)
            now = time.monotonic()

    def _in_loop(self, action: Callable[[], None]) -> None:
        """Have something done by the server's own thread, which alone may touch its sockets."""
        done = threading.Event()

        def act() -> None:
            try:
                action()
            finally:
                done.set()

        if self._thread.is_alive():
            self._listeners[0].trigger.pull_trigger(act)
        while self._thread.is_alive() and not done.wait(_LOOK):
            pass

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if listener.accepting:
                # Those who wait to be accepted would be reset with it.
                listener.handle_accept()
                # Not the listener's own close(): its trigger is needed to the end.
                wasyncore.dispatcher.close(listener)

    def _close_idle(self) -> None:
        for channel in self._clients():
            if not channel.is_busy and not channel.has_unread:
                channel.handle_close()

    def _close_clients(self) -> None:
        for channel in self._clients():
            channel.handle_close()

    def _look_after(self, listener: BaseWSGIServer, now: float) -> None:
        """Close silent connections, as waitress does, and give up requests that do not come."""
        BaseWSGIServer.maintenance(listener, now)
        long_ago = now - listener.adj.channel_timeout
        for channel in tuple(listener.active_channels.values()):
            channel.refuse_late()
            # waitress would close it as soon as its client reads, which it may never do, and one that a
            # thread is sending to not at all.
            is_unread = channel.total_outbufs_len and channel.last_activity < long_ago
            if channel.will_close or is_unread:
                channel.handle_close()
        if self._most_unfinished is not None:
            self._give_up_bodies(self._most_unfinished)
        if self._most_unsent is not None:
            self._give_up_answers(self._most_unsent)

    def _give_up_bodies(self, most: int) -> None:
        clients = self._clients()
        excess = sum(channel.unfinished for channel in clients) - most
        for channel in sorted(clients, key=lambda channel: channel.began):
            if excess > 0:
                excess -= channel.unfinished
                channel.refuse_body()

    def _give_up_answers(self, most: int) -> None:
        clients = self._clients()
        excess = sum(channel.unsent for channel in clients) - most
        for channel in sorted(clients, key=lambda channel: channel.last_activity):
            if excess > 0 and channel.unsent:
                excess -= channel.unsent
                channel.handle_close()

    def _clients(self) -> list[Channel]:
        return [c for listener in self._listeners for c in listener.active_channels.values()]

    def _let_go(self) -> None:
        # Without sockets the loop ends. They are closed after it, the one that woke it included.
        self._left = list(self._sockets.values())
        self._sockets.clear()


def _connection_limit() -> int:
    """How many connections are held: they leave a quarter of the process's descriptors to its work.

    Each may need two more: for the file that it is sent, and for one in which the body of its next request
    lies.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return _CONNECTIONS
    return min(_CONNECTIONS, descriptors // 4)


def _accept_waiting(listener: BaseWSGIServer) -> None:
    """Accept all connections that clients have made.

    waitress accepts one a turn, and a turn takes the longer the more connections there are: a client
    that comes after a thousand others would wait for seconds.
    """
    for _ in range(listener.adj.connection_limit - len(listener._map)):  # noqa: SLF001 - as waitress does
        before = len(listener.active_channels)
        BaseWSGIServer.handle_accept(listener)
        if len(listener.active_channels) == before:
            return


def _listener(address: str) -> socket.socket:
    """A socket that listens at ``address:port``; IPv6 addresses stand in brackets."""
    match = re.fullmatch(r"([^\s:\[\]]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise SettingsError(f"Cannot listen on {address!r}: it is not address:port.")
    host = match[1].strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(match[2])), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(f"Cannot listen on {address}: {error}") from None

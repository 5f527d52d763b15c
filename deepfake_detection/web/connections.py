"""Connections that cost something and bring nothing are closed: half-open requests, unread answers, more than there is
room for.

uvicorn waits for a request's head as long as the other side likes, and refuses for lack of room only who has sent one.
"""

from __future__ import annotations

import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds in which a request's head must be there, from the connection's start or the last answer's end on.
HEAD_S = 10.0
#: Seconds in which an answer that the other side takes too slowly must move on.
ANSWER_S = 30.0
#: Seconds that a request may take from its head to the end of its answer; longer than the slowest upload.
REQUEST_S = 3900.0
#: Connections at once; fewer where the process may open fewer files.
MOST = 512
#: Files that the server needs besides: uploads, table, workers' pipes.
OTHER_FILES = 256


def most() -> int:
    """How many connections are taken at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(16, min(MOST, soft - OTHER_FILES))


def raise_file_limit() -> None:
    """Lets this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Protocol(H11Protocol):
    """HTTP/1.1 with deadlines. Of too many connections the one that waits longest for a request is closed."""

    #: Connections without a request, and those that do not read their answer; the longest waiting first.
    waiting: dict[Protocol, None] = {}
    unread: dict[Protocol, None] = {}

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._timers = {}
        if len(self.connections) > most():
            oldest = next(iter(self.waiting), None) or next(iter(self.unread), self)  # nobody waits: the new one goes
            oldest.transport.abort()
            self._forget(oldest)
            if oldest is self:
                return
        self._wait()

    def connection_lost(self, exc) -> None:
        self._forget(self)
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self.cycle is not None and not self.transport.is_closing():
            self.waiting.pop(self, None)
            self._stop("head")
            if not self.cycle.response_complete:
                self._start("request", REQUEST_S)

    def on_response_complete(self) -> None:
        self._stop("request")
        if not self.transport.is_closing():
            self._wait()  # before pipelined requests are looked at, which end the waiting
        else:
            self._start("answer", ANSWER_S)  # what is not yet read of the last answer
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread[self] = None
        self._start("answer", ANSWER_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread.pop(self, None)
        self._stop("answer")

    def _forget(self, connection: Protocol) -> None:
        self.waiting.pop(connection, None)
        self.unread.pop(connection, None)

    def _wait(self) -> None:
        self.waiting[self] = None
        # Not moved by single bytes, and not by a body that nobody reads.
        self._start("head", HEAD_S)

    def _start(self, name: str, seconds: float) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

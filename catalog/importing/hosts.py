"""How often one server is asked: a few at once to begin with, more while it answers well, fewer when it strains."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from catalog.images import ImageError

FIRST_AT_ONCE = 6
"""What browsers allow themselves with a server that speaks HTTP/1.1."""
_LOOK_UP_S = 0.2
"""How often those who wait look whether the run was stopped."""


class Interrupted(Exception):
    """The run was stopped while a picture was on its way."""


class Strained(Exception):
    """The server is busy, silent or gone: fewer requests at once may help it."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        """For how long the server asks to be left alone."""


class Host:
    """One server. How many may ask it at once grows and shrinks as TCP's window does, for the same reason:
    nobody can know what a stranger's server bears, and everybody can see how it answers.
    """

    def __init__(self, most_at_once: int, longest_wait_s: float, give_up_s: float) -> None:
        self._most = most_at_once
        self._longest_wait_s = longest_wait_s
        self._give_up_s = give_up_s
        self._room = float(min(FIRST_AT_ONCE, most_at_once))
        self._busy = 0
        self._closed_until = 0.0
        self._strains = 0
        self._strained_since: float | None = None
        """When it began to do nothing but strain."""
        self._changed = threading.Condition()

    @contextmanager
    def visit(self, stopped: threading.Event) -> Iterator[None]:
        """Wait until there is room for one more request; how it went decides about the next.

        Raises ImageError without asking when the host has been given up.
        """
        strains = self._enter(stopped)
        try:
            yield
        except Strained as error:
            self._shrink(strains, error.wait_s)
            raise
        except BaseException:
            self._strained_since = None  # an answer, if a bad one
            raise
        else:
            self._grow()
        finally:
            self._leave()

    def _enter(self, stopped: threading.Event) -> int:
        with self._changed:
            while not stopped.is_set():
                now = time.monotonic()
                if self._strained_since is not None and now - self._strained_since > self._give_up_s:
                    raise ImageError(f"The server was given up: no good answer for {self._give_up_s:g} s.")
                closed_s = self._closed_until - now
                if closed_s <= 0 and self._busy < int(self._room):
                    self._busy += 1
                    return self._strains
                self._changed.wait(min(closed_s, _LOOK_UP_S) if closed_s > 0 else _LOOK_UP_S)
        raise Interrupted

    def _leave(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def _grow(self) -> None:
        """One more for every answer (twice as many each round trip); once it has strained, one more each round."""
        with self._changed:
            self._strained_since = None
            self._room = min(self._most, self._room + (1 / self._room if self._strains else 1))

    def _shrink(self, strains: int, wait_s: float | None) -> None:
        with self._changed:
            now = time.monotonic()
            if self._strained_since is None:
                self._strained_since = now
            if strains == self._strains:  # else the request began before we halved: it says nothing new
                self._strains += 1
                self._room = max(1.0, self._room / 2)
            if wait_s is not None:
                self._closed_until = max(self._closed_until, now + min(wait_s, self._longest_wait_s))

"""Pictures from their addresses: several at once, polite to every host, and never for ever.

The addresses come from the operator's own file, so private networks are not closed to them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from catalog.images import MAX_BYTES, ImageError

USER_AGENT = "Vitrine/1.0 (visual catalogue; fetches the pictures its operator lists)"
_CHUNK_BYTES = 64 * 1024
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Manners:
    """How patient and how polite we are. Seconds, bytes, counts."""

    connect_timeout_s: float = 5
    read_timeout_s: float = 10
    """Longest silence."""
    total_timeout_s: float = 30
    """Longest time for one try, however steadily bytes drip."""
    tries: int = 4
    backoff_s: float = 0.5
    """Wait after the first failed try; doubles with every further one, and is spread by chance."""
    longest_wait_s: float = 30
    """The most we wait because a server asks us to (Retry-After)."""
    per_host: int = 6
    redirects: int = 3
    max_bytes: int = MAX_BYTES


class Interrupted(Exception):
    """The run was stopped while a picture was on its way."""


class _TryAgain(Exception):
    """This try failed, another may not."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass
class _Host:
    """One server: how many may ask it at once, and when it wants to be asked again."""

    slots: threading.Semaphore
    closed_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Fetcher:
    """Fetches pictures; made once per run and used by many threads."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self._hosts: dict[str, _Host] = {}
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()
        self._own = threading.local()
        self._stopped = threading.Event()

    def fetch(self, url: str) -> bytes:
        """The bytes at an address. Raises ImageError with a short reason."""
        host = self._host(url)
        manners = self.manners
        for attempt in range(1, manners.tries + 1):
            self._wait_for(host)
            try:
                with self._slot(host):
                    return self._try(url)
            except _TryAgain as error:
                if attempt == manners.tries:
                    raise ImageError(str(error)) from error
                if error.wait_s is not None:
                    self._close_for(host, min(error.wait_s, manners.longest_wait_s))
                else:
                    # Spread by chance, lest all threads come back to a busy server at once.
                    self._sleep(manners.backoff_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")  # tries is at least 1

    def stop(self) -> None:
        """Let every thread give up at its next step."""
        self._stopped.set()

    def close(self) -> None:
        with self._lock:
            for session in self._sessions:
                session.close()

    # --- one try ------------------------------------------------------------------------------
    def _try(self, url: str) -> bytes:
        deadline = time.monotonic() + self.manners.total_timeout_s
        timeouts = (self.manners.connect_timeout_s, self.manners.read_timeout_s)
        try:
            with self._session().get(url, stream=True, timeout=timeouts) as response:
                _check_status(response)
                return self._body(response, deadline)
        except requests.TooManyRedirects as error:
            raise ImageError(f"More than {self.manners.redirects} redirects.") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _TryAgain("The server did not answer in time.") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise ImageError("It leads to something that is not an http or https address.") from error
        except (requests.ConnectionError, urllib3.exceptions.HTTPError, OSError) as error:
            # OSError: requests' own errors are of that kind, and bare ones come from the socket.
            raise _TryAgain("The connection failed.") from error
        except ValueError as error:  # idna, urllib3 and http.client refuse some addresses with these
            raise ImageError("The address cannot be understood.") from error

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        limit = self.manners.max_bytes
        too_large = ImageError(f"The file is larger than {limit / 2**20:.3g} MiB.")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        parts: list[bytes] = []
        size = 0
        # read1 returns what one read of the socket brought; read and iter_content wait until a chunk is
        # full, and a server that drips one byte at a time would keep them past every deadline.
        while part := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            size += len(part)
            if size > limit:
                raise too_large
            if time.monotonic() > deadline:
                raise ImageError(f"It took longer than {self.manners.total_timeout_s:g} s.")
            if self._stopped.is_set():
                raise Interrupted
            parts.append(part)
        return b"".join(parts)

    def _session(self) -> requests.Session:
        """This thread's session: requests does not promise that one may be shared."""
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False  # neither proxies nor passwords from the surroundings
            session.max_redirects = self.manners.redirects
            session.headers.update(
                {
                    "User-Agent": USER_AGENT,
                    "Accept": "image/jpeg,image/png,image/webp,image/gif;q=0.9,*/*;q=0.1",
                    "Accept-Encoding": "identity",
                }
            )
            self._own.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    # --- politeness ---------------------------------------------------------------------------
    def _host(self, url: str) -> _Host:
        try:
            parts = urlsplit(url)
            name = parts.netloc.rpartition("@")[2].lower()
        except ValueError as error:
            raise ImageError("The address cannot be understood.") from error
        if parts.scheme.lower() not in ("http", "https") or not name:
            raise ImageError("It is not an http or https address.")
        with self._lock:
            return self._hosts.setdefault(name, _Host(threading.Semaphore(self.manners.per_host)))

    @contextmanager
    def _slot(self, host: _Host) -> Iterator[None]:
        while not host.slots.acquire(timeout=0.2):
            if self._stopped.is_set():
                raise Interrupted
        try:
            yield
        finally:
            host.slots.release()

    def _close_for(self, host: _Host, seconds: float) -> None:
        with host.lock:
            host.closed_until = max(host.closed_until, time.monotonic() + seconds)

    def _wait_for(self, host: _Host) -> None:
        while (left := host.closed_until - time.monotonic()) > 0:
            self._sleep(left)
        self._sleep(0)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Interrupted


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    reason = f"HTTP {status}."
    if status in _WORTH_ANOTHER_TRY:
        raise _TryAgain(reason, _retry_after_s(response.headers.get("Retry-After", "")))
    raise ImageError(reason)


def _retry_after_s(value: str) -> float | None:
    """Seconds from a Retry-After header, which is a number or a date; None where it says nothing."""
    value = value.strip()
    if value.isdecimal():
        return float(value[:6])
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None

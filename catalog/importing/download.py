"""Pictures from their addresses: several at once, polite to every host, and never for ever.

The addresses come from the operator's file, and that may come from anybody: only the public internet is asked, unless
the settings say otherwise (`catalog.addresses.Reach`).
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from catalog.addresses import Reach, reach_of_settings
from catalog.decoding import MAX_BYTES
from catalog.images import ImageError
from catalog.importing.bounds import BoundedAdapter, Bounds, read_body
from catalog.importing.hosts import Host, Interrupted, Strained

USER_AGENT = "Vitrine/1.0 (visual catalogue; fetches the pictures its operator lists)"
_WORTH_ANOTHER_TRY = frozenset({408, 425, 500, 502, 504})
_ASKS_FOR_LESS = frozenset({429, 503})


@dataclass(frozen=True)
class Manners:
    """How patient and how polite we are. Seconds, bytes, counts."""

    connect_timeout_s: float = 5
    """For each of the host's network addresses."""
    read_timeout_s: float = 10
    """Longest silence, and longest wait for a name's addresses."""
    total_timeout_s: float = 15
    """Longest time for one try with its redirects, however many addresses are tried and however steadily headers or
    body drip."""
    tries: int = 4
    backoff_s: float = 0.5
    """Wait after the first failed try; doubles with every further one, and is spread by chance."""
    longest_wait_s: float = 30
    """The most we wait because a server asks us to (Retry-After)."""
    give_up_s: float = 120
    """A host that has given no other answer than strain for so long is not asked again in this run."""
    per_host: int = 32
    """The most requests at once to one host, reached only while it answers well."""
    redirects: int = 3
    max_bytes: int = MAX_BYTES
    reach: Reach = field(default_factory=reach_of_settings)


class _TryAgain(Exception):
    """This try failed, another may not."""


class Fetcher:
    """Fetches pictures; made once per run and used by many threads."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self._hosts: dict[str, Host] = {}
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()
        self._own = threading.local()
        self._stopped = threading.Event()

    def fetch(self, url: str) -> bytes:
        """The bytes at an address. Raises ImageError with a short reason."""
        host = self._host(url)
        manners = self.manners
        for attempt in range(1, manners.tries + 1):
            try:
                with host.visit(self._stopped):
                    return self._try(url)
            except (_TryAgain, Strained) as error:
                if attempt == manners.tries:
                    raise ImageError(str(error)) from error
                if not isinstance(error, Strained) or error.wait_s is None:
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
        manners = self.manners
        bounds = Bounds(
            manners.total_timeout_s, manners.read_timeout_s, manners.max_bytes, self._stopped, reach=manners.reach
        )
        timeouts = (manners.connect_timeout_s, manners.read_timeout_s)
        try:
            with bounds.held(), self._session().get(url, stream=True, timeout=timeouts) as response:
                _check_status(response)
                return read_body(response.raw, bounds)
        except requests.TooManyRedirects as error:
            raise ImageError(f"More than {manners.redirects} redirects.") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise Strained("The server did not answer in time.") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise ImageError("It leads to something that is not an http or https address.") from error
        except (requests.ConnectionError, urllib3.exceptions.HTTPError, OSError) as error:
            # OSError: requests' own errors are of that kind, and bare ones come from the socket.
            raise Strained("The connection failed.") from error
        except ValueError as error:  # idna, urllib3 and http.client refuse some addresses with these
            raise ImageError("The address cannot be understood.") from error

    def _session(self) -> requests.Session:
        """This thread's session: requests does not promise that one may be shared."""
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False  # neither proxies nor passwords from the surroundings
            session.mount("http://", BoundedAdapter())
            session.mount("https://", BoundedAdapter())
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
    def _host(self, url: str) -> Host:
        self.manners.reach.check(url)
        name = urlsplit(url).netloc.lower()
        with self._lock:
            if name not in self._hosts:
                manners = self.manners
                self._hosts[name] = Host(manners.per_host, manners.longest_wait_s, manners.give_up_s)
            return self._hosts[name]

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Interrupted


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    reason = f"HTTP {status}."
    wait_s = _retry_after_s(response.headers.get("Retry-After", ""))
    if status in _ASKS_FOR_LESS or (status in _WORTH_ANOTHER_TRY and wait_s is not None):
        raise Strained(reason, wait_s)
    if status in _WORTH_ANOTHER_TRY:
        raise _TryAgain(reason)
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

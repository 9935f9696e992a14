"""A picture from an address that a stranger gave: fetched as if the address were an attack, which it may be.

The danger is a server that asks its own neighbours on a stranger's behalf (CWE-918). So a name is looked up once, all
that it stands for must be open to the whole internet, and the connection goes to what was checked, not to the name.
Whatever is wrong, the answer is the same: nobody can tell a closed port from a name that does not exist.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import certifi
import idna
import urllib3
from django.conf import settings
from django.utils.translation import gettext, gettext_noop

from catalog.addresses import PORTS, Address, Resolver, addresses_of, is_public, system_resolver
from catalog.decoding import MAX_BYTES
from catalog.images import ImageError
from catalog.importing.bounds import BoundedPool, BoundedTLSPool, Bounds, read_body
from catalog.metrics import refused

logger = logging.getLogger(__name__)

USER_AGENT = "Vitrine/1.0 (visual catalogue; fetches a picture that a visitor named)"
MAX_LENGTH = 2000
REFUSAL = gettext_noop(
    "No picture could be fetched from this address. It has to lead straight to a picture that everybody may see."
)

_ODD = re.compile(r"[\x00-\x20\x7f\\]")
_LAST_LABEL_IS_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE)
"""What the C library would read as an IPv4 address in decimal, octal or hexadecimal (WHATWG, "ends in a number")."""


@dataclass(frozen=True)
class Target:
    """Where an address leads, as it is written. `host` in lower case, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse(url: str) -> Target:
    """Take an address apart. Raises ValueError where it is not plainly http or https to one host."""
    url = url.strip()
    if len(url) > MAX_LENGTH or _ODD.search(url):
        raise ValueError("too long, or with characters that no address has")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("no scheme, no host, or credentials")
    if "[" in parts.netloc:
        if not re.fullmatch(r"\[[^\[\]]*\](:[0-9]*)?", parts.netloc):
            raise ValueError("brackets that hold no host")
        host = str(IPv6Address(parts.hostname))
    else:
        host = _host(parts.hostname)
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def _host(name: str) -> str:
    host = idna.encode(name, uts46=True).decode() if not name.isascii() else name
    host = host.removesuffix(".")
    if _LAST_LABEL_IS_A_NUMBER.fullmatch(host):
        host = str(IPv4Address(host))  # in its one usual form, or not at all
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", host) or ".." in host or len(host) > 253:
        raise ValueError("no name that a host can have")
    return host


@dataclass(frozen=True)
class Rules:
    """What a fetch may reach and cost. `private` opens every address and port, for trials and tests."""

    private: bool = False
    resolve: Resolver = system_resolver
    total_s: float = 15
    silence_s: float = 5
    """The longest wait for a connection, and between two reads."""
    max_bytes: int = MAX_BYTES
    ca_file: str = field(default_factory=certifi.where)


_PLACES = threading.BoundedSemaphore(2)
"""Slow servers may hold this many of a process's threads; its other visitors keep theirs."""


@contextmanager
def _place() -> Iterator[None]:
    if not _PLACES.acquire(blocking=False):
        raise ImageError("too many at once")
    try:
        yield
    finally:
        _PLACES.release()


def fetch(url: str, rules: Rules | None = None) -> bytes:
    """The bytes at an address. Raises ImageError with REFUSAL, whatever is wrong; the log says what it was.

    `rules` are those of the setting VITRINE_FETCH unless given.
    """
    try:
        if rules is None:
            rules = _rules_of_settings()
        with _place():
            return _fetch(parse(url), rules)
    # urllib3, http.client, ssl, idna and ipaddress: all of these refuse addresses and answers with errors of their own.
    except (ImageError, OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        refused("address", type(error).__name__)
        logger.info("Not fetched: %r (%s: %s)", url[:200], type(error).__name__, error)
        raise ImageError(gettext(REFUSAL)) from error


def _rules_of_settings() -> Rules:
    if settings.FETCH == "off":
        raise ImageError("VITRINE_FETCH is off")
    return replace(Rules(), private=settings.FETCH == "private")


def _fetch(target: Target, rules: Rules) -> bytes:
    bounds = Bounds(rules.total_s, rules.silence_s, rules.max_bytes, threading.Event())
    if target.port not in PORTS and not rules.private:
        raise ImageError("another port")
    addresses = [ip_address(text) for text in addresses_of(target.host, rules.resolve, bounds.wait_s())]
    if not addresses:
        raise ImageError("no address")
    # One that is not public spoils them all: who answers with a mixture is up to something.
    if not rules.private and not all(is_public(address) for address in addresses):
        raise ImageError("not a public address")
    trouble: Exception = ImageError("no address")
    for address in addresses:
        try:
            return _fetch_from(address, target, rules, bounds)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            trouble = error  # a machine without IPv6, for one, gets no further than this
    raise trouble


def _fetch_from(address: Address, target: Target, rules: Rules, bounds: Bounds) -> bytes:
    timeout = urllib3.Timeout(connect=bounds.wait_s(), read=rules.silence_s)
    pool: urllib3.HTTPConnectionPool
    if target.scheme == "https":
        pool = BoundedTLSPool(
            str(address),
            target.port,
            timeout=timeout,
            server_hostname=target.host,  # sent as SNI, and what the certificate has to be for
            cert_reqs="CERT_REQUIRED",
            ca_certs=rules.ca_file,
        )
    else:
        pool = BoundedPool(str(address), target.port, timeout=timeout)
    headers = {
        "Host": target.host_header,
        "User-Agent": USER_AGENT,
        "Accept": "image/jpeg,image/png,image/webp,image/gif",
        "Accept-Encoding": "identity",
    }
    with pool, bounds.held():
        response = pool.urlopen(
            "GET",
            target.path,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
        )
        try:
            if response.status != 200:
                raise ImageError(f"HTTP {response.status}")
            return read_body(response, bounds)
        finally:
            response.close()

"""What one request may cost in time and bytes, held at every single read of its socket.

A timeout of requests is the longest silence before each read: a server that drips its headers byte by byte is within
it for ever, because http.client reads whole lines. So the reader below, which http.client reads through, lets no read
wait past the deadline.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from catalog.addresses import Reach
from catalog.images import ImageError
from catalog.importing.hosts import Interrupted

_HEADERS_BYTES = 256 * 1024
"""What headers, and what is read of redirects, may add to a body."""


@dataclass
class Bounds:
    """What a request may still cost, its redirects included."""

    total_s: float
    silence_s: float
    max_bytes: int
    stopped: threading.Event
    began: float = 0.0
    received: int = 0
    reach: Reach | None = None
    """What may be connected to; None where whoever asks has seen to that."""

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    @contextmanager
    def held(self) -> Iterator[None]:
        """All responses that this thread reads meanwhile are held to them."""
        _OF_THREAD.bounds = self
        try:
            yield
        finally:
            del _OF_THREAD.bounds

    @property
    def left_s(self) -> float:
        return self.began + self.total_s - time.monotonic()

    def wait_s(self) -> float:
        """How long the next read, connection or lookup may take."""
        if self.stopped.is_set():
            raise Interrupted
        if (left_s := self.left_s) <= 0:
            raise self.too_long()
        return min(left_s, self.silence_s)

    def count(self, size: int) -> None:
        self.received += size
        if self.received > self.max_bytes + _HEADERS_BYTES:
            raise self.too_large()

    def too_long(self) -> ImageError:
        return ImageError(f"It took longer than {self.total_s:g} s.")

    def too_large(self) -> ImageError:
        return ImageError(f"The file is larger than {self.max_bytes / 2**20:.3g} MiB.")


_OF_THREAD = threading.local()
_CHUNK_BYTES = 64 * 1024


def read_body(response: urllib3.BaseHTTPResponse, bounds: Bounds) -> bytes:
    """The decoded body of a response that was not preloaded. Raises ImageError where it is too large."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > bounds.max_bytes:
        raise bounds.too_large()
    parts: list[bytes] = []
    size = 0
    # read1 returns what one read of the socket brought, so that nothing is decompressed past the limit.
    while part := response.read1(_CHUNK_BYTES, decode_content=True):
        size += len(part)
        if size > bounds.max_bytes:
            raise bounds.too_large()
        parts.append(part)
    return b"".join(parts)


class _Reader(io.RawIOBase):
    """A socket's bytes, within the bounds of the request that its thread is making."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._bounds: Bounds = _OF_THREAD.bounds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        wait_s = self._bounds.wait_s()
        self._sock.settimeout(wait_s)
        try:
            size: int | None = self._raw.readinto(buffer)
        except TimeoutError as error:
            if wait_s < self._bounds.silence_s:
                raise self._bounds.too_long() from error
            raise
        self._bounds.count(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach()))


class _Reaching(HTTPConnection):
    """Looks a name up once, and connects to what was checked, within the time that is left. Certificates and `Host` are
    still the name's."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        bounds: Bounds = _OF_THREAD.bounds
        name, limit_s = self._dns_host, self.timeout
        trouble: Exception = NameResolutionError(name, self, socket.gaierror("no address"))
        try:
            for address in bounds.reach.addresses(name, bounds.wait_s()) if bounds.reach else [name]:
                self._dns_host, self.timeout = address, _shorter(limit_s, bounds.wait_s())
                try:
                    connected = super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as error:
                    trouble = error  # a machine without IPv6, for one, gets no further than this
                    if bounds.left_s <= 0:
                        break
                else:
                    # What is left is for TLS; no time at all would mean not to wait, and another error.
                    connected.settimeout(_shorter(limit_s, max(bounds.left_s, 0.001)))
                    return connected
        except OSError as error:
            raise NameResolutionError(name, self, error) from error  # type: ignore[arg-type]  # it is only shown
        finally:
            self._dns_host, self.timeout = name, limit_s
        raise trouble


def _shorter(limit_s: Any, wait_s: float) -> float:
    """`limit_s` as urllib3 keeps it: None and a mark of its own stand for no limit."""
    return min(limit_s, wait_s) if isinstance(limit_s, int | float) else wait_s


class _Connection(_Reaching):
    pass


class _TLSConnection(_Reaching, HTTPSConnection):
    pass


class BoundedPool(urllib3.HTTPConnectionPool):
    """Its responses are read by a thread that holds `Bounds`; so are those of the next one."""

    ConnectionCls = _Connection


class BoundedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def _pass_over(response: requests.Response) -> None:
    """Nobody looks at a redirect's body, but requests would read and decode it, whatever comes out of it: 150 KB may be
    300 MB. A short one is read as it comes, so that its connection can be used again; the rest is left.
    """
    response.raw.read(_CHUNK_BYTES, decode_content=False)
    response.close()


class BoundedAdapter(requests.adapters.HTTPAdapter):
    """For a session that one thread uses, and only while it holds `Bounds`. Every redirect comes by here."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if (reach := _OF_THREAD.bounds.reach) is not None:
            reach.check(request.url or "")
        response = super().send(request, *args, **options)
        if response.is_redirect:
            _pass_over(response)
        return response

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedTLSPool}

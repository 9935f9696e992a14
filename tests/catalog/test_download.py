"""Pictures are fetched from a real server on this machine: politely, patiently, and never for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from catalog.images import ImageError
from catalog.importing.download import Fetcher, Interrupted, Manners
from tests.catalog.material import picture

PICTURE = picture()
HASTY = Manners(
    connect_timeout_s=1, read_timeout_s=0.4, total_timeout_s=0.8, backoff_s=0.01, longest_wait_s=0.3, tries=3
)


@dataclass
class Shop:
    """A server whose answers the tests write themselves."""

    address: str
    answers: dict[str, Callable[[BaseHTTPRequestHandler, int], None]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def answer(request: BaseHTTPRequestHandler, status: int = 200, body: bytes = PICTURE, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture(name="shop")
def running_shop() -> Iterator[Shop]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with shop.lock:
                shop.asked[self.path] += 1
                count = shop.asked[self.path]
                shop.at_once += 1
                shop.most_at_once = max(shop.most_at_once, shop.at_once)
            try:
                shop.answers[self.path](self, count)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with shop.lock:
                    shop.at_once -= 1

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    shop = Shop(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shop
    server.shutdown()
    thread.join()
    server.socket.close()


def refusal(url: str, manners: Manners = HASTY) -> str:
    fetcher = Fetcher(manners)
    with pytest.raises(ImageError) as caught:
        fetcher.fetch(url)
    fetcher.close()
    return str(caught.value)


def test_it_works(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request)
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE


def test_a_missing_picture_is_asked_for_once(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 404, b"no")
    assert refusal(f"{shop.address}/a.png") == "HTTP 404."
    assert shop.asked["/a.png"] == 1


def test_a_server_in_trouble_is_asked_again(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 500 if count < 3 else 200)
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE


def test_a_server_that_stays_in_trouble_is_left_alone(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 503)
    assert refusal(f"{shop.address}/a.png") == "HTTP 503."
    assert shop.asked["/a.png"] == HASTY.tries


def test_retry_after_closes_the_host_for_everybody_and_is_capped(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 429 if count == 1 else 200, Retry_After="3600")
    shop.answers["/b.png"] = lambda request, count: answer(request)
    fetcher = Fetcher(HASTY)
    began = time.monotonic()
    busy = threading.Thread(target=fetcher.fetch, args=(f"{shop.address}/a.png",))
    busy.start()
    while not shop.asked["/a.png"]:
        time.sleep(0.005)
    time.sleep(0.05)
    fetcher.fetch(f"{shop.address}/b.png")
    assert 0.25 < time.monotonic() - began < 2
    busy.join()


def test_a_slow_drip_ends_at_the_deadline(shop: Shop) -> None:
    def drip(request: BaseHTTPRequestHandler, count: int) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            time.sleep(0.05)

    shop.answers["/a.png"] = drip
    began = time.monotonic()
    assert refusal(f"{shop.address}/a.png") == "It took longer than 0.8 s."
    assert time.monotonic() - began < 2


def test_silence_ends_at_the_read_timeout(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: time.sleep(0.6)
    assert "in time" in refusal(f"{shop.address}/a.png", Manners(read_timeout_s=0.1, tries=1))


@pytest.mark.parametrize("honest", [True, False])
def test_a_picture_that_is_too_large_is_not_read_to_its_end(shop: Shop, honest: bool) -> None:
    def large(request: BaseHTTPRequestHandler, count: int) -> None:
        request.send_response(200)
        if honest:
            request.send_header("Content-Length", str(50 * 2**20))
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        for _ in range(50):
            request.wfile.write(bytes(2**20))

    shop.answers["/a.png"] = large
    assert refusal(f"{shop.address}/a.png", Manners(tries=1)) == "The file is larger than 10 MiB."


def test_a_broken_connection_is_tried_again(shop: Shop) -> None:
    def broken(request: BaseHTTPRequestHandler, count: int) -> None:
        if count > 1:
            answer(request)
            return
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"x" * 10)
        request.close_connection = True

    shop.answers["/a.png"] = broken
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE


def test_nobody_there_is_a_short_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.png"
        assert refusal(url) == "The connection failed."


def test_redirects_have_an_end(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 302, Location="/b.png")
    shop.answers["/b.png"] = lambda request, count: answer(request)
    shop.answers["/loop"] = lambda request, count: answer(request, 302, Location="/loop")
    shop.answers["/file"] = lambda request, count: answer(request, 302, Location="file:///etc/hosts")
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE
    assert refusal(f"{shop.address}/loop") == "More than 3 redirects."
    assert "http" in refusal(f"{shop.address}/file")


@pytest.mark.parametrize("url", ["ftp://x/a.png", "file:///etc/hosts", "a.png", "//x/a.png", "http://", "http://[::1"])
def test_only_http_addresses_are_asked(url: str) -> None:
    assert refusal(url).endswith(".")


@pytest.mark.parametrize("url", ["http://" + "a" * 70 + ".x/a.png", "http://127.0.0.1:99999/a", "http://%zz/"])
def test_an_address_that_cannot_be_understood_is_a_reason_too(url: str) -> None:
    assert refusal(url).endswith(".")


def test_a_host_is_never_asked_too_often_at_once(shop: Shop) -> None:
    def slow(request: BaseHTTPRequestHandler, count: int) -> None:
        time.sleep(0.03)
        answer(request)

    shop.answers["/a.png"] = slow
    fetcher = Fetcher(Manners(per_host=2))
    threads = [threading.Thread(target=fetcher.fetch, args=(f"{shop.address}/a.png",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.asked["/a.png"] == 8
    assert shop.most_at_once == 2


def test_a_stopped_run_does_not_wait(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 503, Retry_After="30")
    fetcher = Fetcher(Manners())
    threading.Timer(0.1, fetcher.stop).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        fetcher.fetch(f"{shop.address}/a.png")
    assert time.monotonic() - began < 2

"""Pictures are fetched from a real server on this machine: politely, patiently, and never for ever."""

from __future__ import annotations

import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from catalog.addresses import Reach
from catalog.images import ImageError
from catalog.importing import hosts
from catalog.importing.download import Fetcher, Manners
from catalog.importing.hosts import FIRST_AT_ONCE, Interrupted
from tests.catalog.material import picture
from tests.processes import PATIENCE_S, until

PICTURE = picture()
HASTY = Manners(backoff_s=0.01, longest_wait_s=0.3, tries=3)
"""As long as anybody waits for an answer, for the machine may be busy, and hardly at all between two tries."""


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
            self.here = True
            try:
                shop.answers[self.path](self, count)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                self.leave()

        def leave(self) -> None:
            """Before the answer: whoever has it may ask again sooner than this thread goes on."""
            with shop.lock:
                shop.at_once -= self.here
            self.here = False

        def end_headers(self) -> None:
            self.leave()
            super().end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # with 5, the sixth to come at once waits a second for its connection

    server = Server(("127.0.0.1", 0), Handler)
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
    until(lambda: any(host._closed_until for host in fetcher._hosts.values()))
    fetcher.fetch(f"{shop.address}/b.png")
    assert 0.25 < time.monotonic() - began < 20
    busy.join()


@pytest.mark.parametrize(
    ("at_once", "dripping"),
    [
        (b"", b"HTTP/1.1 200 OK"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Slow: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\nContent-Length: 1000\r\n\r\n", b"body"),
    ],
    ids=["status", "headers", "body", "size of a chunk", "body of a redirect"],
)
def test_a_slow_drip_ends_at_the_deadline(shop: Shop, at_once: bytes, dripping: bytes) -> None:
    """Every byte comes within the read timeout, so only the deadline of the whole try can end it."""

    def drip(request: BaseHTTPRequestHandler, count: int) -> None:
        request.wfile.write(at_once)
        for byte in dripping + b"x" * 100:
            request.wfile.write(bytes([byte]))
            time.sleep(0.1)

    shop.answers["/a.png"] = drip
    began = time.monotonic()
    assert refusal(f"{shop.address}/a.png", Manners(total_timeout_s=1.2)) == "It took longer than 1.2 s."
    assert 1.2 <= time.monotonic() - began < 9
    assert shop.asked["/a.png"] == 1


def test_the_deadline_holds_across_redirects(shop: Shop) -> None:
    def slow_redirect(request: BaseHTTPRequestHandler, count: int) -> None:
        time.sleep(0.15)
        answer(request, 302, b"", Location=f"/{count}.png")

    for name in ("a", "1"):
        shop.answers[f"/{name}.png"] = slow_redirect
    assert refusal(f"{shop.address}/a.png", Manners(total_timeout_s=0.25)) == "It took longer than 0.25 s."


def test_a_connection_that_is_used_again_has_all_its_time(shop: Shop) -> None:
    def slow(request: BaseHTTPRequestHandler, count: int) -> None:
        ports.add(request.client_address[1])
        time.sleep(1.1)
        answer(request)

    ports: set[int] = set()
    shop.answers["/a.png"] = slow
    fetcher = Fetcher(Manners(total_timeout_s=3, tries=1))
    assert [fetcher.fetch(f"{shop.address}/a.png") for _ in range(3)] == [PICTURE] * 3
    assert len(ports) == 1


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port of this machine where connections are not refused and not made: its queue is full."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_the_deadline_holds_for_all_addresses_of_a_name(deaf: int) -> None:
    reach = Reach(private=True, resolve=lambda host: ["127.0.0.1"] * 40)
    patient = Manners(connect_timeout_s=0.3, total_timeout_s=1.2, tries=1, reach=reach)
    began = time.monotonic()
    assert refusal(f"http://shop.example:{deaf}/a.png", patient) == "The server did not answer in time."
    assert 1.2 <= time.monotonic() - began < 8


def test_the_deadline_holds_for_greetings_of_tls() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(5)
        began = time.monotonic()
        patient = Manners(total_timeout_s=1.2, tries=1)
        assert refusal(f"https://127.0.0.1:{mute.getsockname()[1]}/a.png", patient).endswith("in time.")
        assert 1.2 <= time.monotonic() - began < 8


def test_a_lookup_is_not_waited_for_past_the_deadline(shop: Shop) -> None:
    def slow(host: str) -> list[str]:
        found.wait(PATIENCE_S)
        return ["127.0.0.1"]

    found = threading.Event()
    port = shop.address.rpartition(":")[2]
    began = time.monotonic()
    patient = Manners(total_timeout_s=1.2, tries=1, reach=Reach(private=True, resolve=slow))
    assert refusal(f"http://shop.example:{port}/a.png", patient) == "The connection failed."
    found.set()
    assert 1.2 <= time.monotonic() - began < 15
    assert not shop.asked


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


def test_a_redirect_is_followed_without_reading_its_body_to_its_end(shop: Shop) -> None:
    def large(request: BaseHTTPRequestHandler, count: int) -> None:
        request.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\nConnection: close\r\n\r\n")
        request.close_connection = True
        for _ in range(50):
            request.wfile.write(bytes(2**20))
        sent.append("all of it")

    sent: list[str] = []
    shop.answers["/a.png"] = large
    shop.answers["/b.png"] = lambda request, count: answer(request)
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE
    assert sent == []


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_packed_in_a_redirect_is_never_unpacked(shop: Shop, chunked: bool) -> None:
    def bomb(request: BaseHTTPRequestHandler, count: int) -> None:
        request.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\nContent-Encoding: gzip\r\n")
        if chunked:
            request.wfile.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed))
        else:
            request.wfile.write(b"Content-Length: %d\r\n\r\n%b" % (len(packed), packed))

    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()
    assert len(packed) < 150_000
    shop.answers["/a.png"] = bomb
    shop.answers["/b.png"] = lambda request, count: answer(request)
    tracemalloc.start()
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 4 * 2**20


def test_a_connection_is_used_again_after_a_short_redirect(shop: Shop) -> None:
    def redirect(request: BaseHTTPRequestHandler, count: int) -> None:
        ports.add(request.client_address[1])
        answer(request, 302, b"<html>over there</html>", Location="/b.png")

    def found(request: BaseHTTPRequestHandler, count: int) -> None:
        ports.add(request.client_address[1])
        answer(request)

    ports: set[int] = set()
    shop.answers.update({"/a.png": redirect, "/b.png": found})
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE
    assert len(ports) == 1


@pytest.mark.parametrize("sent_before", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\n\r\nxx"])
def test_a_reset_is_tried_again(shop: Shop, sent_before: bytes) -> None:
    def reset(request: BaseHTTPRequestHandler, count: int) -> None:
        if count > 1:
            answer(request)
            return
        request.wfile.write(sent_before)
        time.sleep(0.02)  # let it arrive; a reset overtakes what is still on its way
        # To linger for no time is to close by RST. The handler holds the socket by two more files.
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.close_connection = True
        request.rfile.close()
        request.connection.close()

    shop.answers["/a.png"] = reset
    assert Fetcher(HASTY).fetch(f"{shop.address}/a.png") == PICTURE
    assert shop.asked["/a.png"] == 2


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


def test_a_host_is_asked_by_more_while_it_answers_well(shop: Shop) -> None:
    def held(request: BaseHTTPRequestHandler, count: int) -> None:
        go_on.wait(PATIENCE_S)
        answer(request)

    def together(request: BaseHTTPRequestHandler, count: int) -> None:
        barrier.wait(PATIENCE_S)
        answer(request)

    go_on, barrier = threading.Event(), threading.Barrier(12)
    shop.answers.update({"/held.png": held, "/together.png": together})
    fetcher = Fetcher(Manners(per_host=12, tries=1))
    with ThreadPoolExecutor(20) as pool:
        first = [pool.submit(fetcher.fetch, f"{shop.address}/held.png") for _ in range(20)]
        settled(shop, FIRST_AT_ONCE)  # a stranger is asked by few
        go_on.set()
        assert [each.result() for each in first] == [PICTURE] * 20
        # The server answers these only when twelve have come: room has grown, up to the limit.
        second = [pool.submit(fetcher.fetch, f"{shop.address}/together.png") for _ in range(24)]
        assert [each.result() for each in second] == [PICTURE] * 24
    assert shop.most_at_once == 12


@pytest.mark.parametrize("strain", ["503", "closed"])
def test_a_host_that_strains_is_asked_by_fewer(shop: Shop, strain: str) -> None:
    def strained(request: BaseHTTPRequestHandler, count: int) -> None:
        barrier.wait(PATIENCE_S)
        if strain == "503":
            answer(request, 503)
        request.close_connection = True

    def held(request: BaseHTTPRequestHandler, count: int) -> None:
        go_on.wait(PATIENCE_S)
        answer(request)

    go_on, barrier = threading.Event(), threading.Barrier(FIRST_AT_ONCE)
    shop.answers.update({"/strained.png": strained, "/held.png": held})
    fetcher = Fetcher(Manners(tries=1))
    with ThreadPoolExecutor(FIRST_AT_ONCE) as pool:
        first = [pool.submit(fetcher.fetch, f"{shop.address}/strained.png") for _ in range(FIRST_AT_ONCE)]
        assert {type(each.exception()) for each in first} == {ImageError}
        second = [pool.submit(fetcher.fetch, f"{shop.address}/held.png") for _ in range(FIRST_AT_ONCE)]
        settled(shop, FIRST_AT_ONCE // 2)  # halved once, though six told of it
        go_on.set()
        assert [each.result() for each in second] == [PICTURE] * FIRST_AT_ONCE


def test_a_host_that_only_strains_is_given_up(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 503)
    fetcher = Fetcher(Manners(tries=1, give_up_s=0))
    for reason in ("HTTP 503.", "The server was given up: no good answer for 0 s."):
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(f"{shop.address}/a.png")
        assert str(caught.value) == reason
    assert shop.asked["/a.png"] == 1


def test_a_host_that_answers_now_and_then_is_not_given_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(hosts, "time", SimpleNamespace(monotonic=lambda: now))
    shop.answers["/a.png"] = lambda request, count: answer(request, 503)
    shop.answers["/b.png"] = lambda request, count: answer(request, 404)
    shop.answers["/c.png"] = lambda request, count: answer(request)
    fetcher = Fetcher(Manners(tries=1, give_up_s=120))
    for name in "abab":
        with pytest.raises(ImageError, match="HTTP"):
            fetcher.fetch(f"{shop.address}/{name}.png")
        now += 70
    assert fetcher.fetch(f"{shop.address}/c.png") == PICTURE


def settled(shop: Shop, count: int) -> None:
    """Wait until so many ask at once, and see that no more come."""
    until(lambda: shop.at_once >= count)
    time.sleep(0.05)
    assert shop.at_once == count


def test_a_stopped_run_does_not_wait(shop: Shop) -> None:
    shop.answers["/a.png"] = lambda request, count: answer(request, 503, Retry_After="30")
    fetcher = Fetcher(Manners())
    threading.Timer(0.1, fetcher.stop).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        fetcher.fetch(f"{shop.address}/a.png")
    assert time.monotonic() - began < 20

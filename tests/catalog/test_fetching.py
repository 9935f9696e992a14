"""Addresses that strangers give: what is never asked, and what is asked how."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from catalog import fetching
from catalog.addresses import is_public, system_resolver
from catalog.decoding import MAX_BYTES
from catalog.fetching import REFUSAL, Rules, fetch, parse
from catalog.images import ImageError
from tests.catalog.material import picture
from tests.processes import PATIENCE_S

PICTURE = picture()
TRIAL = Rules(private=True, resolve=lambda host: ["127.0.0.1"])
HURRIED = replace(TRIAL, total_s=1, silence_s=0.5)


def refused(url: str, rules: Rules | None = None) -> bool:
    with pytest.raises(ImageError) as caught:
        fetch(url, rules)
    assert str(caught.value) == REFUSAL
    return True


# --- which addresses are open ------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.1", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.31.255.255"),
        *("192.0.0.8", "192.0.0.9", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7"),
        *("203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *("::", "::1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:0:8.8.8.8"),
        *("64:ff9b::808:808", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "fe80::1", "fe80::1%eth0", "fec0::1"),
        *("fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2001::1", "2001:0:4136:e378::1", "2001:10::1"),
        *("2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "4000::1"),
        *("2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1", "2606:4700::1111%1"),
    ],
)
def test_an_address_that_is_not_of_the_open_internet_is_closed(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_an_address_of_the_open_internet_is_open(address: str) -> None:
    assert is_public(ip_address(address))


# --- how addresses are written -----------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "/a.png", "//shop.example/a.png", "http:", "http://", "http:///a.png", "https:shop.example"),
        *("ftp://shop.example/a.png", "file:///etc/passwd", "gopher://shop.example/", "data:image/png;base64,AAAA"),
        *("javascript:alert(1)", "unix:///run/docker.sock"),
        *("http://user@shop.example/", "http://user:secret@shop.example/", "http://@shop.example/"),
        *("http://shop.example\\@127.0.0.1/", "http://127.0.0.1\\.shop.example/", "http://127.0.0.1#@shop.example@/"),
        *("http://shop.example:x/", "http://shop.example:99999/", "http://shop.example:-80/"),
        *("http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://127.1/"),
        *("http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.1.2/", "http://0/", "http://0x/", "http://1/"),
        *("http://256.256.256.256/", "http://shop.1/", "http://2130706433./"),
        *("http://shop..example/", "http://.shop.example/", "http://shop.example../", "http://-/", "http://sh%6fp/"),
        *("http://shop .example/", "http://shop.\texample/", "http://shop.example/a b", "http://shop.example/\r\nX: y"),
        *("http://shop.example/\0", "http://[::1", "http://::1/", "http://[shop]/", "http://[v1.x]/"),
        *("http://8.8.8.8[::1]/", "http://[::1]8.8.8.8/", "http://[8.8.8.8]/", "http://[::1]:80:80/"),
        "http://shop.example/" + "a" * 2000,
        "http://" + "a" * 254 + "/",
    ],
)
def test_what_is_not_plainly_an_address_is_refused_before_anything_is_looked_up(url: str) -> None:
    asked: list[str] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    assert refused(url, replace(TRIAL, resolve=resolve))
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://127.0.0.1./", "http://１２７.０.０.１/", "http://①②⑦.0.0.1/", "http://[::1]/"),
        *("http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::]/"),
        *("http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[fe80::1%25lo]/", "http://[fd00:ec2::254]/"),
        *("http://169.254.169.254/latest/meta-data/", "http://168.63.129.16/", "https://10.0.0.1/a.png"),
    ],
)
def test_an_address_within_is_refused_however_it_is_spelt(url: str) -> None:
    assert refused(url)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "ip6-localhost"])
def test_names_of_this_machine_are_refused(name: str) -> None:
    assert refused(f"http://{name}/")


@pytest.mark.parametrize("port", [0, 1, 22, 81, 8000, 8080, 6379, 65535])
def test_other_ports_are_refused(port: int) -> None:
    assert refused(f"http://shop.example:{port}/", Rules(resolve=lambda host: ["8.8.8.8"]))


def test_an_address_is_taken_apart_once() -> None:
    target = parse("  HTTPS://Shop.Example.:443/a/../b.png?size=2&x=%20#part ")
    assert (target.scheme, target.host, target.port, target.path) == (
        "https",
        "shop.example",
        443,
        "/a/../b.png?size=2&x=%20",
    )
    assert target.host_header == "shop.example"
    assert parse("http://bücher.example").host == "xn--bcher-kva.example"
    assert parse("http://[2606:4700::1111]:443/").host_header == "[2606:4700::1111]:443"


# --- what names stand for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        [],
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["10.0.0.1", "8.8.8.8"],
        ["2606:4700::1111", "::1"],
        ["8.8.8.8", "64:ff9b::a00:1"],
        ["8.8.8.8", "fe80::1%eth0"],
        ["not an address"],
    ],
)
def test_one_address_that_is_not_public_spoils_them_all(answers: list[str]) -> None:
    assert refused("http://shop.example/", Rules(resolve=lambda host: answers))


def test_a_name_is_looked_up_once_and_what_was_checked_is_asked(shop: Shop) -> None:
    """Answers that change between check and use (DNS rebinding) change nothing."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    asked: list[str] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return next(answers)

    shop.answers["/a.png"] = reply()
    assert fetch(f"http://shop.example:{shop.port}/a.png", replace(TRIAL, resolve=resolve)) == PICTURE
    assert asked == ["shop.example"]
    assert shop.heard[0]["Host"] == f"shop.example:{shop.port}"


def test_the_next_address_is_tried_where_nobody_answers(shop: Shop) -> None:
    shop.answers["/a.png"] = reply()
    rules = replace(TRIAL, resolve=lambda host: ["::1", "127.0.0.1"])
    assert fetch(f"http://shop.example:{shop.port}/a.png", rules) == PICTURE


def test_a_name_that_does_not_exist_is_refused_alike() -> None:
    def nowhere(host: str) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert refused("http://nowhere.example/", Rules(resolve=nowhere))


def test_a_lookup_is_not_waited_for_for_ever() -> None:
    asked = threading.Event()

    def slow(host: str) -> list[str]:
        asked.wait(PATIENCE_S)
        return ["8.8.8.8"]

    began = time.monotonic()
    assert refused("http://shop.example/", replace(HURRIED, resolve=slow))
    asked.set()
    assert time.monotonic() - began < TRIAL.total_s - 1


def test_the_system_knows_its_own_name() -> None:
    assert "127.0.0.1" in system_resolver("localhost") or "::1" in system_resolver("localhost")


# --- what is fetched, from a real server on this machine ---------------------------------------


@dataclass
class Shop:
    """A server whose answers the tests write themselves."""

    port: int
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    heard: list[dict[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def reply(body: bytes = PICTURE, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Shop]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shop.heard.append(dict(self.headers))
            try:
                shop.answers.get(self.path, reply(b"", 404))(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            """Clients that hang up are what is tested."""

        def get_request(self) -> Any:
            sock, address = super().get_request()
            return (tls.wrap_socket(sock, server_side=True) if tls else sock), address

    server = Server(("127.0.0.1", 0), Handler)
    shop = Shop(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shop
    server.shutdown()
    thread.join()
    server.socket.close()


@pytest.fixture(name="shop")
def running_shop() -> Iterator[Shop]:
    with running() as shop:
        yield shop


def test_it_works(shop: Shop) -> None:
    shop.answers["/a.png?size=2"] = reply()
    assert fetch(f"{shop.address}/a.png?size=2", TRIAL) == PICTURE


def test_the_setting_opens_closes_and_keeps_private_networks_out(shop: Shop, settings: Any) -> None:
    shop.answers["/a.png"] = reply()
    for value in ("public", "off"):
        settings.FETCH = value
        assert refused(f"{shop.address}/a.png")
    assert shop.heard == []
    settings.FETCH = "private"
    assert fetch(f"{shop.address}/a.png") == PICTURE


def test_proxies_and_passwords_of_the_surroundings_are_not_used(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1/")
    shop.answers["/a.png"] = reply()
    assert fetch(f"{shop.address}/a.png", TRIAL) == PICTURE
    assert not {"Authorization", "Cookie", "Referer"} & set(shop.heard[0])


@pytest.mark.parametrize("status", [204, 206, 301, 302, 303, 307, 308, 401, 404, 500, 503])
def test_no_other_answer_is_taken_and_no_redirect_followed(shop: Shop, status: int) -> None:
    shop.answers["/a.png"] = reply(PICTURE if status != 204 else b"", status, Location=f"{shop.address}/b.png")
    shop.answers["/b.png"] = reply()
    assert refused(f"{shop.address}/a.png", TRIAL)
    assert len(shop.heard) == 1


def test_a_body_may_not_be_larger_than_a_picture(shop: Shop) -> None:
    small = replace(TRIAL, max_bytes=1000)
    shop.answers["/said"] = reply(b"", Content_Length=str(MAX_BYTES + 1))
    shop.answers["/sent"] = lambda request: reply(b"x" * 400_000, Content_Length="900000")(request)
    assert refused(f"{shop.address}/said", TRIAL)
    assert refused(f"{shop.address}/sent", small)


def test_what_is_packed_counts_as_it_comes_out(shop: Shop) -> None:
    packed = zlib.compressobj(wbits=31)
    bomb = packed.compress(bytes(50_000_000)) + packed.flush()
    assert len(bomb) < 100_000
    shop.answers["/bomb"] = reply(bomb, Content_Encoding="gzip")
    assert refused(f"{shop.address}/bomb", TRIAL)


def test_a_server_that_drips_is_left_at_the_deadline(shop: Shop) -> None:
    left = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not left.wait(0.02):
            request.wfile.write(b"x")

    shop.answers["/slow"] = drip
    began = time.monotonic()
    assert refused(f"{shop.address}/slow", HURRIED)
    left.set()
    assert time.monotonic() - began < TRIAL.total_s - 1


def test_slow_servers_hold_two_threads_and_no_more(shop: Shop) -> None:
    come, go = threading.Semaphore(0), threading.Event()

    def hold(request: BaseHTTPRequestHandler) -> None:
        come.release()
        go.wait(PATIENCE_S)
        reply()(request)

    shop.answers["/slow"] = hold
    patient = replace(TRIAL, total_s=PATIENCE_S, silence_s=PATIENCE_S)
    threads = [threading.Thread(target=fetch, args=(f"{shop.address}/slow", patient)) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert come.acquire(timeout=PATIENCE_S)
    assert refused(f"{shop.address}/slow", patient)
    go.set()
    for thread in threads:
        thread.join()
    shop.answers["/a.png"] = reply()
    assert fetch(f"{shop.address}/a.png", TRIAL) == PICTURE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for shop.example, and its key, in one file."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl on this machine")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"),
            *("-addext", "subjectAltName=DNS:shop.example", "-keyout", "key.pem", "-out", "shop.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    with (folder / "shop.pem").open("a") as file:
        file.write((folder / "key.pem").read_text())
    return folder / "shop.pem"


def test_certificates_are_checked_by_name_although_the_address_is_pinned(certificate: Path) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda sock, name, context: names.append(name)
    trusting = replace(TRIAL, ca_file=str(certificate))
    with running(context) as shop:
        shop.answers["/a.png"] = reply()
        assert fetch(f"https://shop.example:{shop.port}/a.png", trusting) == PICTURE
        assert names == ["shop.example"]
        assert refused(f"https://other.example:{shop.port}/a.png", trusting)
        assert refused(f"https://shop.example:{shop.port}/a.png", TRIAL)  # nobody vouches for it
        assert len(shop.heard) == 1


def test_the_log_says_what_the_answer_does_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger=fetching.__name__):
        assert refused("http://127.0.0.1/\n")
        assert refused("http://10.0.0.1/a.png")
    assert "not a public address" in caplog.text
    assert "http://10.0.0.1/a.png" in caplog.text

"""Imports ask the public internet and nobody else, whatever a file, a name or a redirect says."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address

import pytest

from catalog.addresses import Reach, reach_of_settings
from catalog.images import ImageError
from catalog.importing.download import Fetcher, Manners
from tests.catalog.material import picture

PICTURE = picture((1, 2, 3))


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that somebody tried to connect to. Loopback alone is let through."""
    seen: list[str] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, address: tuple[str, int]) -> None:
        seen.append(address[0])
        if not ip_address(address[0]).is_loopback:
            raise OSError("not from a test")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    return seen


@pytest.fixture
def shop() -> Iterator[Callable[[str], str]]:
    """A server; called with where it shall redirect to ("" for a picture), it says its own address."""
    target = [""]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if target[0] else 200)
            if target[0]:
                self.send_header("Location", target[0])
            self.send_header("Content-Length", "0" if target[0] else str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(b"" if target[0] else PICTURE)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answers(location: str = "") -> str:
        target[0] = location
        return f"http://127.0.0.1:{server.server_port}/a.png"

    yield answers
    server.shutdown()
    server.server_close()


def refusal(reach: Reach, url: str) -> str:
    with pytest.raises(ImageError) as caught:
        Fetcher(Manners(tries=1, reach=reach)).fetch(url)
    return str(caught.value)


def resolving(**names: Sequence[str]) -> Callable[[str], Sequence[str]]:
    return lambda host: names[host.replace(".", "_")]


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/"),
        *("http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"),
        *("http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://168.63.129.16/", "http://0/"),
        *("http://localhost/", "http://[fe80::1]/", "http://224.0.0.1/", "http://192.168.1.1/"),
    ],
)
def test_no_spelling_of_a_private_address_is_dialled(url: str, dialled: list[str]) -> None:
    assert refusal(Reach(), url)
    assert dialled == []


def test_a_name_of_a_private_address_is_not_dialled(dialled: list[str]) -> None:
    reach = Reach(resolve=resolving(shop_example=["93.184.215.14", "10.0.0.1"]))
    assert "not on the public internet" in refusal(reach, "http://shop.example/a.png")
    assert dialled == []


def test_a_name_is_looked_up_once(dialled: list[str]) -> None:
    """Whoever answers otherwise the second time (DNS rebinding) is not asked a second time."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    assert refusal(Reach(resolve=lambda host: next(answers)), "http://shop.example/a.png")
    assert dialled == ["93.184.215.14"]


@pytest.mark.parametrize("url", ["ftp://shop.example/", "http://u:p@shop.example/", "http://shop.example:22/", "x"])
def test_other_ports_schemes_and_credentials_are_refused(url: str, dialled: list[str]) -> None:
    assert refusal(Reach(resolve=resolving()), url)
    assert dialled == []


@pytest.mark.parametrize(
    "location", ["http://10.0.0.1/", "http://u:p@127.0.0.1/", "file:///etc/passwd", "http://[::ffff:10.0.0.1]/"]
)
def test_every_redirect_is_checked_again(shop: Callable[[str], str], location: str, dialled: list[str]) -> None:
    """The first address is open by its name, the one that it leads to is not."""

    class Half(Reach):
        def check(self, url: str) -> None:
            if not url.endswith("a.png"):
                super().check(url)

        def addresses(self, host: str, wait_s: float) -> list[str]:
            return [host] if host == "127.0.0.1" else super().addresses(host, wait_s)

    assert refusal(Half(), shop(location))
    assert dialled == ["127.0.0.1"]


def test_a_setting_opens_private_networks(shop: Callable[..., str]) -> None:
    assert Fetcher(Manners(tries=1, reach=Reach(private=True))).fetch(shop()) == PICTURE


def test_only_named_hosts_are_asked(dialled: list[str]) -> None:
    reach = Reach(hosts=("shop.example",), resolve=resolving(cdn_shop_example=["10.0.0.1"]))
    assert "VITRINE_IMPORT_HOSTS" in refusal(reach, "http://evil-shop.example/a.png")
    assert "public internet" in refusal(reach, "http://cdn.shop.example/a.png")  # named, and looked up
    assert dialled == []


def test_the_settings_decide(settings: object) -> None:
    settings.IMPORT_FETCH, settings.IMPORT_HOSTS = "public", ["shop.example"]  # type: ignore[attr-defined]
    assert reach_of_settings() == Reach(private=False, hosts=("shop.example",))

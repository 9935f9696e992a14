"""Addresses of this machine and its neighbours, however they are spelt, given to searches and to imports: none is
dialled. Every connection and every question for a name that Python makes is seen by an audit hook (PEP 578) and goes
nowhere.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from bench.torture.ground import Report

WITHIN = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "192.168.1.1", "100.100.100.200", "0.0.0.1")
NAMES = {
    "inside.example": ["10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "both.example": ["8.8.8.8", "127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "zone.example": ["fe80::1%eth0"],
    "multicast.example": ["ff0e::1"],
    "azure.example": ["168.63.129.16"],
    "nonsense.example": ["not an address"],
}
"""What the names of strangers stand for in this scenario: no name server is asked."""


def run(count: int, seed: int, folder: Path) -> Report:
    os.environ["VITRINE_DATA_DIR"] = str(folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.torture.settings")
    import django

    django.setup()
    from catalog.addresses import Reach
    from catalog.fetching import REFUSAL, Rules, fetch
    from catalog.images import ImageError
    from catalog.importing.download import Fetcher, Manners

    logging.disable(logging.INFO)  # a line for each refusal
    report = Report("addresses", seed)
    dialled: list[tuple[str, Any]] = []
    asked: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto"):
            dialled.append((url, arguments[1]))
            raise ConnectionRefusedError("nobody dials in this scenario")
        if event == "socket.getaddrinfo":
            asked.append(str(arguments[0]))
            raise socket.gaierror("no name server is asked in this scenario")

    def resolve(host: str) -> list[str]:
        if host in NAMES:
            return NAMES[host]
        socket.getaddrinfo(host, None)
        raise AssertionError("unreachable")

    url = ""
    sys.addaudithook(watch)
    spellings = list(dict.fromkeys(spelt()))
    random.Random(seed).shuffle(spellings)
    importer = Fetcher(Manners(tries=1, reach=Reach(resolve=resolve)))
    for url in spellings[: max(count, 60)]:
        report.tried += 1
        try:
            fetch(url, Rules(resolve=resolve))
            report.failures.append(f"a search fetched {url!r}")
        except ImageError as error:
            report.expect(str(error) == REFUSAL, f"{url!r} was refused in words of its own: {error}")
        try:
            importer.fetch(url)
            report.failures.append(f"an import fetched {url!r}")
        except ImageError:
            pass
    report.failures += [f"{url!r} led to a connection to {address!r}" for url, address in dialled]
    report.figures = {"spellings": len(spellings), "dials": len(dialled), "names_asked_for": sorted(set(asked))}
    return report


def spelt() -> Iterator[str]:
    for each in WITHIN:
        for host in hosts(IPv4Address(each)):
            yield f"http://{host}/a.jpg"
        yield from (f"https://{each}/", f"http://{each}:80/", f"http://{each}:443/", f"http://{each}:8000/")
        yield from (f"http://shop.example@{each}/", f"http://{each}\\@shop.example/", f"http://{each}#@shop.example/")
        yield from (
            f"http://{each}?@shop.example/",
            f"http:\\\\{each}/",
            f"http:/{each}/",
            f"http:{each}",
            f"//{each}/",
        )
        yield from (f" http://{each}/ ", f"http://{each}\t/", f"ht\ntp://{each}/", f"http://{each}\r\nHost: x/")
    for name in (
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ip6-localhost",
        "localhost.localdomain",
        "ｌｏｃａｌｈｏｓｔ",
    ):
        yield f"http://{name}/"
    for address in ("::", "::1", "fe80::1", "fe80::1%25lo", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"):
        yield f"http://[{address}]/"
    yield from (f"http://{name}/a.jpg" for name in NAMES)
    for scheme in ("file", "ftp", "gopher", "dict", "data", "jar", "unix", "javascript", "httpx", "HTTP+unix"):
        yield f"{scheme}://127.0.0.1/etc/passwd"
    yield from ("file:///etc/passwd", "data:image/png;base64,AAAA", "http://", "http:///", "x", "", "http://[::1")


def hosts(address: IPv4Address) -> Iterator[str]:
    """The ways in which programs write and read an IPv4 address."""
    number, parts = int(address), str(address).split(".")
    yield str(address)
    yield f"{address}."
    yield from (str(number), hex(number), oct(number).replace("0o", "0"), f"{number}.")
    yield ".".join(hex(int(part)) for part in parts)
    yield ".".join(f"0{int(part):o}" for part in parts)
    yield ".".join(f"{int(part):03d}" for part in parts)
    yield f"{parts[0]}.{number & 0xFFFFFF}"
    yield f"{parts[0]}.{parts[1]}.{number & 0xFFFF}"
    yield str(address).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    yield str(address).replace(".", "。")
    yield "".join(f"%{ord(letter):02x}" for letter in str(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    for text in (
        *(f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}", f"64:ff9b:1::{address}", f"::ffff:0:{address}"),
        *(f"2002:{high}:{low}::", f"2606:4700::5efe:{high}:{low}", f"2001:0:4136:e378:8000:63bf:{high}:{low}"),
    ):
        yield f"[{text}]"
        yield f"[{IPv6Address(text).exploded}]"

#!/usr/bin/env python
"""How fast pictures come from a server that takes its time, and what becomes of them when it misbehaves.

    python bench/download.py [--pictures 400] [--latency-ms 50] [--rounds 3] [--per-host N] [--workers N] [--json]

A server of its own, in its own process on this machine, keeps connections open and holds every answer back by the
latency; connecting costs nothing here, which favours those who connect anew for each picture. Rounds of all ways follow
one another, so that a noisy neighbour meets them all; ratios are within a round, and the median round counts.

- transfer: `requests.get` one after the other, one `requests.Session` one after the other, and our `Fetcher`.
- import: `import_fashion --download` as a process of its own, against `requests.get` one after the other with the same
  checking and storing, and against that storing alone (on as many threads as cores: the machine's own limit).
- restart: an import killed by SIGKILL in its middle, and started again; what was fetched twice.
- faults: resets, drips of headers and of bodies, web pages with status 200, 503 with Retry-After.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).resolve()
sys.path.insert(0, str(ROOT))

TRY_S = 2.0
"""The longest time for one try in the part with faults, where the default of 30 s would be waited out."""
KINDS = {
    1: "reset before the answer",
    2: "reset within the body",
    3: "body drips",
    4: "headers drip",
    5: "web page",
    6: "503",
}
"""What every twentieth picture meets; the others are served well. Resets and 503 meet the first request only."""
NEVER_GOOD = ("body drips", "headers drip", "web page")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--sequential", type=int, default=60, help="pictures of the ways that take one after the other")
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="instead of the import's default")
    parser.add_argument("--per-host", type=int, help="instead of the import's default")
    parser.add_argument("--json", action="store_true", help="the default; for scripts that say so")
    parser.add_argument("--serve", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve, arguments.latency_ms / 1000))
        return
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as name:
        # A folder of its own; the user's data is none of a benchmark's business.
        os.environ["VITRINE_DATA_DIR"] = f"{name}/data"
        os.environ["VITRINE_IMPORT_FETCH"] = "private"  # its shop is on this machine
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
        import django

        django.setup()
        print(json.dumps(measured(Path(name), arguments), indent=2))


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    say(f"drawing {arguments.pictures} pictures")
    files = drawn(folder / "pictures", arguments.pictures)
    empty = folder / "empty"
    manage(empty, "migrate", "--verbosity=0")
    with served(folder / "pictures", arguments.latency_ms) as shop:
        bench = Bench(folder, empty, shop, files, arguments)
        speed = bench.speed()
        return {
            "pictures": len(files),
            "mean_bytes": round(statistics.mean(file.stat().st_size for file in files)),
            "latency_ms": arguments.latency_ms,
            "cores": len(os.sched_getaffinity(0)),
            **speed,
            "restart": bench.restart(),
            "faults": bench.faults(),
        }


# --- what is measured ---------------------------------------------------------------------------


@dataclass
class Bench:
    folder: Path
    empty: Path
    """A data folder with a database and nothing in it."""
    shop: Shop
    files: list[Path]
    arguments: argparse.Namespace

    def speed(self) -> dict[str, Any]:
        few = [self.shop.picture(file.name) for file in self.files[: self.arguments.sequential]]
        every = [self.shop.picture(file.name) for file in self.files]
        ways: dict[str, Callable[[], float]] = {
            "requests": lambda: rate(one_by_one, few),
            "session": lambda: rate(by_one_session, few),
            "fetcher": lambda: rate(self.by_fetcher, every),
            "requests + storing": lambda: rate(one_by_one_with_storing, few),
            "import": self.by_import,
            "storing alone": lambda: rate(storing_alone, self.files),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        most = dict.fromkeys(ways, 0)
        for number in range(self.arguments.rounds):
            for name, way in ways.items():
                self.shop.forget()
                rates[name].append(way())
                most[name] = max(most[name], self.shop.state()["most_at_once"])
                say(f"round {number + 1}: {name} {rates[name][-1]:.1f}/s, at most {most[name]} at once")

        def ratio(one: str, other: str) -> float:
            return round(statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True)), 2)

        return {
            "per_s": {name: round(statistics.median(each), 1) for name, each in rates.items()},
            "rounds_per_s": {name: [round(value, 1) for value in each] for name, each in rates.items()},
            "most_at_once": most,
            "transfer_ratio_to_requests": ratio("fetcher", "requests"),
            "transfer_ratio_to_session": ratio("fetcher", "session"),
            "import_ratio_to_requests_with_storing": ratio("import", "requests + storing"),
            "import_ratio_to_requests": ratio("import", "requests"),
            "import_share_of_storing_alone": ratio("import", "storing alone"),
        }

    def by_fetcher(self, urls: list[str]) -> None:
        """A fresh Fetcher, which has to learn what the server bears, and the threads that an import gives it."""
        from catalog.importing.download import Fetcher, Manners
        from catalog.importing.service import ImportOptions

        per_host = self.arguments.per_host
        fetcher = Fetcher(Manners(per_host=per_host) if per_host else None)
        with ThreadPoolExecutor(self.arguments.workers or ImportOptions(Path()).workers) as pool:
            for data in pool.map(fetcher.fetch, urls):
                assert data
        fetcher.close()

    def by_import(self) -> float:
        report = self.imported(self.data("import"), self.table())
        assert report["images_ok"] == len(self.files), report
        return float(len(self.files) / report["seconds"])

    def restart(self) -> dict[str, Any]:
        """Killed when half of the pictures have been served, and started again."""
        say("restart")
        self.shop.forget()
        data, table = self.data("restart"), self.table()
        first = subprocess.Popen(self.command(table), env=surroundings(data), stdout=subprocess.DEVNULL)
        while self.shop.state()["served"] < len(self.files) // 2:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        time.sleep(0.2)
        before = self.shop.state()
        report = self.imported(data, table)
        after = self.shop.state()
        return {
            "fetched_before_the_kill": sum(before["asked"].values()),
            "in_place_after_the_kill": report["images_reused"],
            "fetched_twice": sum(count > 1 for count in after["asked"].values()),
            "fetched_three_times": sum(count > 2 for count in after["asked"].values()),
            "images_ok": report["images_ok"],
        }

    def faults(self) -> dict[str, Any]:
        say("faults")
        self.shop.forget()
        data = self.data("faults")
        os.environ["VITRINE_DATA_DIR"] = str(data)
        script = (
            "import sys, django; django.setup(); from pathlib import Path\n"
            "from catalog.importing.download import Manners\n"
            "from catalog.importing.service import ImportOptions, import_catalogue\n"
            f"manners = Manners(total_timeout_s={TRY_S})\n"
            "import_catalogue(ImportOptions(Path(sys.argv[1]), download=True, manners=manners))\n"
            "import json; from catalog.models import Product\n"
            "names = ('product_id', 'image', 'image_error')\n"
            "print(json.dumps(list(Product.objects.values_list(*names))))\n"
        )
        started = time.perf_counter()
        command = [sys.executable, "-c", script, str(self.table("faults"))]
        done = subprocess.run(command, env=surroundings(data), stdout=subprocess.PIPE, check=True, cwd=ROOT)
        seconds = time.perf_counter() - started
        errors: dict[str, Counter[str]] = {}
        arrived: Counter[str] = Counter()
        expected: Counter[str] = Counter()
        for product_id, image, error in json.loads(done.stdout):
            kind = kind_of(int(product_id))
            expected[kind] += kind not in NEVER_GOOD
            arrived[kind] += bool(image)
            if error:
                errors.setdefault(kind, Counter())[error] += 1
        return {
            "seconds_with_start": round(seconds, 1),
            "longest_try_s": TRY_S,
            "good_pictures": expected.total(),
            "good_pictures_in_place": sum(arrived[kind] for kind in expected if kind not in NEVER_GOOD),
            "bad_pictures_in_place": sum(arrived[kind] for kind in NEVER_GOOD),
            "in_place": dict(arrived),
            "reasons": {kind: dict(reasons) for kind, reasons in errors.items()},
            "most_at_once": self.shop.state()["most_at_once"],
        }

    # --- helpers ------------------------------------------------------------------------------
    def data(self, name: str) -> Path:
        """A fresh data folder with an empty database."""
        data = self.folder / name
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self.empty, data)
        return data

    def table(self, part: str = "good") -> Path:
        from catalog.columns import FIELD_OF

        path = self.folder / f"{part}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(FIELD_OF), lineterminator="\n")
            writer.writeheader()
            for picture in self.files:
                row = dict.fromkeys(FIELD_OF, "Shirts")
                address = self.shop.picture(picture.name, part)
                writer.writerow({**row, "ProductId": picture.stem, "Image": "", "ImageURL": address})
        return path

    def imported(self, data: Path, table: Path) -> dict[str, Any]:
        done = subprocess.run(self.command(table), env=surroundings(data), stdout=subprocess.PIPE, check=True)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def command(self, table: Path) -> list[str]:
        command = [sys.executable, str(ROOT / "manage.py"), "import_fashion", str(table), "--download", "--json"]
        for name in ("workers", "per_host"):
            if value := getattr(self.arguments, name):
                command += [f"--{name.replace('_', '-')}", str(value)]
        return command


def rate(way: Callable[[list[Any]], None], things: list[Any]) -> float:
    """Things a second."""
    started = time.perf_counter()
    way(things)
    return len(things) / (time.perf_counter() - started)


def one_by_one(urls: list[str]) -> None:
    for url in urls:
        assert requests.get(url, timeout=30).content


def by_one_session(urls: list[str]) -> None:
    with requests.Session() as session:
        for url in urls:
            assert session.get(url, timeout=30).content


def one_by_one_with_storing(urls: list[str]) -> None:
    from catalog import images

    with emptied_media():
        for url in urls:
            images.store(images.verify(requests.get(url, timeout=30).content))


def storing_alone(files: list[Path]) -> None:
    from catalog import images

    with emptied_media(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(lambda file: images.store(images.verify(file.read_bytes())), files):
            pass


@contextmanager
def emptied_media() -> Iterator[None]:
    from django.conf import settings

    shutil.rmtree(settings.MEDIA_ROOT, ignore_errors=True)
    yield


def surroundings(data: Path) -> dict[str, str]:
    return {**os.environ, "VITRINE_DATA_DIR": str(data), "PYTHONPATH": str(ROOT), "VITRINE_IMPORT_FETCH": "private"}


def manage(data: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "manage.py"), *arguments], env=surroundings(data), check=True)


# --- the pictures -------------------------------------------------------------------------------


def drawn(folder: Path, count: int) -> list[Path]:
    """As many different JPEGs of 480 × 640 pixels and about 30 KB: a garment of cloth before a bright wall."""
    import numpy as np
    from PIL import Image, ImageDraw

    folder.mkdir()
    chance = np.random.default_rng(0)
    grain = chance.normal(0, 4, (640, 480, 1))
    files = []
    for number in range(count):
        image = Image.new("RGB", (480, 640), (236, 234, 230))
        draw = ImageDraw.Draw(image)
        colour, stripe = (tuple(int(value) for value in chance.integers(20, 230, 3)) for _ in range(2))
        neck, hem = int(chance.integers(160, 210)), int(chance.integers(480, 600))
        draw.polygon([(neck, 80), (480 - neck, 80), (430, 200), (380, 240), (380, hem), (100, hem), (50, 200)], colour)
        for at in range(120, hem, int(chance.integers(18, 60))):
            draw.line([(110, at), (370, at)], stripe, 5)
        draw.text((230, 300), str(number), stripe)
        pixels = np.clip(np.asarray(image) + np.roll(grain, number, axis=0), 0, 255).astype(np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(pixels).save(path, "JPEG", quality=75)
        files.append(path)
    return files


# --- the server ---------------------------------------------------------------------------------


@dataclass
class Shop:
    """The server, seen from here."""

    address: str

    def picture(self, name: str, part: str = "good") -> str:
        return f"{self.address}/{part}/{name}"

    def state(self) -> dict[str, Any]:
        """{"asked": {path: times}, "served": whole answers, "most_at_once": requests}"""
        state: dict[str, Any] = requests.get(f"{self.address}/state", timeout=10).json()
        return state

    def forget(self) -> None:
        requests.get(f"{self.address}/forget", timeout=10)


@contextmanager
def served(folder: Path, latency_ms: float) -> Iterator[Shop]:
    command = [sys.executable, str(SCRIPT), "--serve", str(folder), "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Shop(process.stdout.readline().strip())
        finally:
            process.kill()


async def serve(folder: Path, latency_s: float) -> None:
    server = Server({path.name: path.read_bytes() for path in folder.iterdir()}, latency_s)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=512)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


def kind_of(number: int) -> str:
    return KINDS.get(number % 20, "good")


class Server:
    """The pictures, and what has been asked for."""

    def __init__(self, pictures: dict[str, bytes], latency_s: float) -> None:
        self.pictures = pictures
        self.latency_s = latency_s
        self.at_once = 0
        self.forget()

    def forget(self) -> None:
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self.served = 0

    def state(self) -> bytes:
        return json.dumps({"asked": self.asked, "served": self.served, "most_at_once": self.most_at_once}).encode()


class Connection(asyncio.Protocol):
    """One client; answers its requests one after the other, by callbacks, so that this process is never the limit."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.heard = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.done()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if b"\r\n\r\n" in self.heard:
            head, _, self.heard = self.heard.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if path == "/state":
                self.send(self.server.state())
            elif path == "/forget":
                self.server.forget()
                self.send(b"")
            else:
                self.begin(path)

    def begin(self, path: str) -> None:
        server = self.server
        self.busy = True
        server.asked[path] += 1
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        asyncio.get_running_loop().call_later(server.latency_s, self.answer, path, server.asked[path])

    def answer(self, path: str, times: int) -> None:
        _, part, name = path.split("/")
        kind = kind_of(int(name.partition(".")[0])) if part == "faults" else "good"
        body = self.server.pictures[name]
        if kind == "web page":
            self.send(b"<!doctype html><html><body>Sorry, this is gone</body></html>")
        elif kind == "headers drip":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)
        elif kind == "body drips":
            self.drip(head_of(body) + body)
        elif kind.startswith("reset") and times == 1:
            if kind == "reset within the body":
                self.transport.write(head_of(body) + body[:5_000])
            self.reset()
        elif kind == "503" and times == 1:
            self.send(b"busy", "503 Busy", "Retry-After: 1\r\n")
        else:
            self.server.served += 1
            self.send(body)
        if not kind.endswith(("drip", "drips")):
            self.done()

    def done(self) -> None:
        self.server.at_once -= self.busy
        self.busy = False

    def send(self, body: bytes, status: str = "200 OK", more: str = "") -> None:
        self.transport.write(head_of(body, status, more) + body)

    def drip(self, data: bytes, at: int = 0) -> None:
        """A byte every 20 ms, until the client has had enough."""
        if not self.transport.is_closing():
            self.transport.write(data[at : at + 1])
            asyncio.get_running_loop().call_later(0.02, self.drip, data, at + 1)

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def head_of(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

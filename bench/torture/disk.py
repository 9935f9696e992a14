"""A disk that is full, in each place that Vitrine writes to: a sentence instead of a traceback, the site goes on
answering from the build it had, and with room again the same command completes. Needs a Linux that lets us mount.
"""

from __future__ import annotations

import contextlib
import csv
import io
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from PIL import Image, ImageOps

from bench.site import DEMO
from bench.torture.ground import PATIENCE_S, Report, Server, Shop
from bench.torture.kills import write_catalogue

DISK_MIB = 96
LEFT_KIB = (0, 40, 400)
"""What is left free when the command begins."""
SAID = ("space", "disk", "full", "write")
"""One of these words has to be in what the operator reads."""


@dataclass(frozen=True)
class Place:
    """A folder below the data folder ("": all of it), and what is run while its disk is full."""

    folder: str
    name: str
    command: Callable[[Shop, int], tuple[str, ...]]
    before: Callable[[Shop, int], object] = lambda shop, number: None


def run(count: int, seed: int, folder: Path) -> Report:
    """`count` of the places, each with more and more room; then a server."""
    report = Report("disk", seed)
    if (trouble := cannot_mount(folder)) != "":
        report.skipped = trouble
        return report
    stock = Shop(folder / "stock")
    stock.stock()
    outcomes: dict[str, str] = {}
    for number in range(count):
        place, left_kib = PLACES[number % len(PLACES)], LEFT_KIB[number // len(PLACES) % len(LEFT_KIB)]
        shop = Shop(folder / f"trial-{number}")
        what = f"{place.name} with {left_kib} KiB left on the disk of {place.folder or 'everything'}"
        with on_a_small_disk(shop, stock, place) as disk:
            outcomes[what] = fill_up(report, shop, place, disk, left_kib, f"{seed} {number}", what)
            report.tried += 1
    shop = Shop(folder / "asked", TMPDIR=str(folder / "asked" / "tmp"))
    with on_a_small_disk(shop, stock, Place("", "requests", catalogue)) as disk:
        (disk / "tmp").mkdir()
        outcomes["requests with nothing left on the disk of everything, /tmp included"] = ask(report, shop, disk)
        report.tried += 1
    report.figures = {"outcomes": outcomes}
    return report


def cannot_mount(folder: Path) -> str:
    trial = folder / "mount"
    trial.mkdir()
    try:
        mount(trial, 1)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"Nothing can be mounted here: {error}"
    unmount(trial)
    return ""


def mount(folder: Path, size_mib: int) -> None:
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def unmount(folder: Path) -> None:
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def on_a_small_disk(shop: Shop, stock: Shop, place: Place) -> Iterator[Path]:
    """A copy of the stock whose folder has a disk of its own."""
    disk = shop.folder / place.folder
    disk.mkdir(parents=True)
    mount(disk, DISK_MIB)
    try:
        shutil.copytree(stock.folder, shop.folder, dirs_exist_ok=True)
        yield disk
    finally:
        unmount(disk)
        shutil.rmtree(shop.folder, ignore_errors=True)


def fill_up(report: Report, shop: Shop, place: Place, disk: Path, left_kib: int, seed: str, what: str) -> str:
    """What the command said."""
    place.before(shop, random.Random(seed).randrange(1, 1000))
    command = place.command(shop, random.Random(seed).randrange(1, 1000))
    with shop.served(log=shop.folder.parent / "server.log") as server:
        product = "V0001"
        before = matches(server, product)
        filler = disk / "filler"
        room = shutil.disk_usage(disk).free - left_kib * 1024
        with filler.open("wb") as file:
            file.write(b"\0" * max(0, room))
        done = shop.manage(*command, check=False)
        said = (done.stdout + done.stderr).strip()
        last = said.splitlines()[-1] if said else ""
        if done.returncode == 0:
            outcome = "had room enough"
        else:
            outcome = last.replace(str(shop.folder), "…")[:200]
            report.expect("Traceback" not in said, f"{what}: a traceback: {said[-1500:]}")
            report.expect(any(word in said.lower() for word in SAID), f"{what}: it says only {last!r}")
        report.expect(matches(server, product) == before, f"{what}: the site answers otherwise")
        page = requests.get(f"{server.address}/products/{product}/", timeout=PATIENCE_S)
        report.expect(page.status_code == 200, f"{what}: the product's page: {page.status_code}")
        ready = requests.get(f"{server.address}/readyz", timeout=PATIENCE_S)
        report.expect(ready.status_code in (200, 503), f"{what}: /readyz: {ready.status_code}")
        filler.unlink()
        again = shop.manage(*command, check=False)
        report.expect(again.returncode == 0, f"{what}: with room again: {(again.stdout + again.stderr)[-1500:]}")
        report.expect(matches(server, product), f"{what}: nobody answers after the next run")
        report.expect(server.deaths() == 0, f"{what}: {server.deaths()} workers had to be replaced")
    return outcome


def ask(report: Report, shop: Shop, disk: Path) -> str:
    """A server that is started on a full disk: it shows what it has, and says 507 to what it cannot take."""
    headers = {"Authorization": f"Api-Key {shop.key()}"}
    filler = disk / "filler"
    noise = Image.effect_noise((1800, 1800), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG", compress_level=0)  # too large to be kept in memory while it arrives
    said = {}
    log = shop.folder.parent / "server.log"

    def fill() -> None:
        with filler.open("wb") as file:
            file.write(b"\0" * shutil.disk_usage(disk).free)

    with shop.served(log=log) as server:

        def status(name: str, method: str, path: str, **more: Any) -> int:
            answered = requests.request(method, server.address + path, timeout=PATIENCE_S, **more)
            said[name] = answered.status_code
            return answered.status_code

        def write(title: str) -> dict[str, Any]:
            return {"json": {"product_id": "N1", "title": title}, "headers": headers}

        matches(server, "V0001")
        fill()
        for name, path in (("page", "/products/V0001/"), ("list", "/api/v1/products/V0001/similar/"), ("grid", "/")):
            report.expect(status(name, "GET", path) == 200, f"{name} on a full disk: {said[name]}")
        picture = {"files": {"image": ("a.png", buffer.getvalue())}}
        search = "/api/v1/search/image/"
        report.expect(status("write", "PUT", "/api/v1/products/N1/", **write("n" * 200)) == 507, f"write: {said}")
        report.expect(status("search", "POST", search, **picture) == 507, f"search with a large picture: {said}")
        report.expect(status("not there", "GET", "/nowhere") == 404, f"{said}")
        report.expect(status("ready", "GET", "/readyz") == 503, f"/readyz: {said}")
        report.expect("Traceback" not in server.said(), f"a traceback: {server.said()[-2000:]}")
        filler.unlink()
        report.expect(status("write with room", "PUT", "/api/v1/products/N1/", **write("n")) in (200, 201), f"{said}")
        report.expect(status("search with room", "POST", search, **picture) == 200, f"{said}")
        report.expect(server.deaths() == 0, f"{server.deaths()} workers had to be replaced")
    # SQLite needs room to open a database that nobody has open: a server that is started now has nothing to show. And
    # whoever loads the site before it forks (--preload) has metrics there that had no room.
    for options in ((), ("--preload",)):
        fill()
        told = " ".join(["it", *options])
        with shop.served(*options, log=log) as server:
            report.expect(status(f"page of a server that began on a full disk: {told}", "GET", "/") == 507, f"{said}")
            report.expect(status(f"list of {told}", "GET", "/api/v1/products/V0001/similar/") == 507, f"{said}")
            report.expect(status(f"metrics of {told}", "GET", "/metrics") in (200, 507), f"{said}")
            report.expect("Traceback" not in server.said(), f"a traceback: {server.said()[-2000:]}")
            filler.unlink()
            report.expect(status(f"page of {told} with room", "GET", "/") == 200, f"{said}")
            report.expect(status(f"metrics of {told} with room", "GET", "/metrics") == 200, f"{said}")
            report.expect(server.deaths() == 0, f"{server.deaths()} workers had to be replaced")
    return str(said)


def matches(server: Server, product: str) -> list[str]:
    answer = requests.get(f"{server.address}/api/v1/products/{product}/similar/", timeout=PATIENCE_S)
    return [each["product_id"] for each in answer.json()["matches"]]


def catalogue(shop: Shop, number: int) -> tuple[str, ...]:
    path = shop.folder.parent / "more.csv"
    write_catalogue(path, number, random.Random(number))
    return ("import_fashion", str(path), "--images", str(DEMO / "images"))


def other_pictures(shop: Shop, number: int) -> tuple[str, ...]:
    """Products with pictures that are not there yet: the demo's, mirrored."""
    folder = shop.folder.parent / "mirrored"
    folder.mkdir(exist_ok=True)
    with (DEMO / "fashion.csv").open(encoding="utf-8", newline="") as file:
        models = list(csv.DictReader(file))[:40]
    with (folder / "mirrored.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(models[0]))
        writer.writeheader()
        writer.writerows({**model, "ProductId": f"M{model['ProductId']}"} for model in models)
    for model in models:
        if not (folder / model["Image"]).exists():
            with Image.open(DEMO / "images" / model["Image"]) as image:
                ImageOps.mirror(image).save(folder / model["Image"])
    return ("import_fashion", str(folder / "mirrored.csv"), "--images", str(folder))


def relabelled(shop: Shop, number: int) -> None:
    shop.python(
        "from catalog.models import Product\n"
        f"Product.objects.filter(pk__lte={number % 50 + 1}).update(product_type='Hats {number}')"
    )


PLACES = (
    Place("", "import", catalogue),
    Place("media", "import of pictures", other_pictures),
    Place("spaces", "embedding", lambda shop, number: ("build_index", "--full", "--no-report")),
    Place("builds", "building", lambda shop, number: ("build_index",), relabelled),
    Place("", "building", lambda shop, number: ("build_index",), relabelled),
    Place("maps", "mapping", lambda shop, number: ("build_map",), relabelled),
    Place("out", "export", lambda shop, number: ("export_catalogue", str(shop.folder / "out" / "all.csv"))),
)

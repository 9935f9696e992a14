"""The map at any size: seconds of each step of `build_map`, bytes that its page loads, and frames while it is moved.

    python bench/map.py [--data-dir DIR] [--products 100000] [--grown] [--json]

Without --data-dir, the demo catalogue is imported and embedded in a folder of the bench's own; one that is given is
only read. --products grows the catalogue to that many: its products again and again, their looks with noise. --grown
lays the looks out once, before they are grown, and spreads the copies around the points: seconds instead of minutes,
for who wants to look at the page alone. Frames are the times between two calls of requestAnimationFrame in a headless
Chromium, while the mouse drags the map about.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

NOISE = 0.25
"""Length of what is added to a copy's look, as a share of the look's own."""
WINDOW = {"width": 1280, "height": 900}
MOVES = 240
RECORD = """() => {
    window.frames_seen = [];
    let last = performance.now();
    const frame = (now) => { window.frames_seen.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="A catalogue with its index (VITRINE_DATA_DIR).")
    parser.add_argument("--products", type=int, default=0, help="Grow to so many. 0: as many as there are.")
    parser.add_argument("--grown", action="store_true", help="Grow the points instead of the looks.")
    parser.add_argument("--keep", type=Path, help="Make the grown catalogue in this folder, and keep it.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
        source = options.data_dir or Path(folder) / "demo"
        if options.data_dir is None:
            make_catalogue(source)
        data_dir = options.keep or Path(folder) / "grown"
        report = grow(source.resolve(), data_dir, options.products, options.grown)
        report["page"] = look_at_page(data_dir)
    print(json.dumps(report) if options.json else table(report))


def make_catalogue(data_dir: Path) -> None:
    demo = ROOT / "fixtures" / "demo"
    for arguments in (
        ("migrate", "-v0"),
        ("import_fashion", str(demo / "fashion.csv"), "--images", str(demo / "images")),
        ("build_index", "--model", "efficientnet-lite0", "--no-report"),
    ):
        command = [sys.executable, "manage.py", *arguments]
        environment = {**os.environ, "VITRINE_DATA_DIR": str(data_dir)}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def grow(source: Path, data_dir: Path, count: int, grown: bool) -> dict[str, Any]:
    """A catalogue of so many products with its map in `data_dir`. How long each step took, and what the map keeps."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "media").symlink_to(source / "media")
    shutil.copy(
        source / "vitrine.sqlite3", data_dir / "source.sqlite3"
    )  # what a writer has not checkpointed is left out
    os.environ.update(VITRINE_DATA_DIR=str(data_dir), DJANGO_SETTINGS_MODULE="config.settings", DJANGO_DEBUG="0")
    import django

    django.setup()
    import numpy as np
    from django.conf import settings
    from django.core.management import call_command

    from similarity.builds import open_current
    from similarity.indexes import get_engine
    from similarity.maps.cells import Grid, snap
    from similarity.maps.measuring import measure
    from similarity.maps.projection import project
    from similarity.maps.sheets import draw_sheets
    from similarity.maps.storage import Layout, map_lock, store_map
    from similarity.vectors import digest_matrix

    settings.SIMILARITY["BUILDS_DIR"] = source / "builds"
    build = open_current()
    call_command("migrate", verbosity=0)
    rows, hexes, paths = add_products(data_dir, build, count or len(build.rows))
    own = build.index.reconstruct(np.arange(build.index.count))
    copies = np.arange(len(rows)) % len(own)
    random = np.random.default_rng(0)
    noise = random.normal(size=(len(rows), own.shape[1])).astype(np.float32)
    noise *= NOISE * np.linalg.norm(own, axis=1).mean() / np.sqrt(own.shape[1])
    noise[: len(own)] = 0
    looks = own[copies] + noise
    seconds: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = time.monotonic()
        result = work()
        seconds[step] = round(time.monotonic() - started, 2)
        print(f"{step}: {seconds[step]} s", file=sys.stderr)
        return result

    if grown:
        points = timed("projection of the original", lambda: project(own, build.index))[copies]
        points = points + random.normal(size=points.shape) * points.std(axis=0) * 0.02
    else:
        index = get_engine().build(looks)
        points = timed("projection", lambda: project(looks, index))
    grid = Grid.for_count(len(rows))
    cells = timed("cells", lambda: snap(points, grid))
    quality = timed("measuring", lambda: measure(looks, cells).to_json())
    layout = Layout(build.manifest.id, np.array(rows), digest_matrix(hexes), cells, grid, quality)
    with map_lock():
        manifest = timed("drawing and storing", lambda: store_map(layout, draw_sheets(cells, paths)))
    return {
        "products": len(rows),
        "grid": [grid.columns, grid.rows],
        "seconds": seconds,
        "quality": quality,
        "tiles": manifest.tiles,
        "bytes_stored": manifest.size,
    }


def add_products(data_dir: Path, build: Any, count: int) -> tuple[list[int], list[str], list[Path | None]]:
    """Rows, digests and thumbnails of so many products, stored: those of the build's pictures, again and again."""
    import sqlite3

    from django.conf import settings
    from django.db import transaction

    from similarity.products import LABELS, Product

    names = ["embedding_row", "title", *LABELS, "image", "thumbnail", "image_width", "image_height", "image_sha256"]
    with sqlite3.connect(data_dir / "source.sqlite3") as source:
        query = f"SELECT {', '.join(names)} FROM catalog_product WHERE embedding_row IS NOT NULL"  # noqa: S608
        known = {values[0]: dict(zip(names[1:], values[1:], strict=True)) for values in source.execute(query)}
    originals = [known[row] for row in build.rows.tolist()]
    with transaction.atomic():
        for start in range(0, count, 5000):
            Product.objects.bulk_create(
                Product(product_id=f"P{at:07}", embedding_row=at + 1, **originals[at % len(originals)])
                for at in range(start, min(count, start + 5000))
            )
    chosen = [originals[at % len(originals)] for at in range(count)]
    media = Path(settings.MEDIA_ROOT)
    return (
        list(range(1, count + 1)),
        [str(each["image_sha256"]) for each in chosen],
        [media / str(each["thumbnail"]) for each in chosen],
    )


@contextmanager
def served(data_dir: Path) -> Iterator[str]:
    """The address of a server over the folder, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    (data_dir / "static").mkdir(exist_ok=True)  # WhiteNoise warns where there is none
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", f"--bind={bind}", "--workers=2", "--threads=4"]
    own = {"DJANGO_SECRET_KEY": "of the bench, " * 5, "DJANGO_ALLOWED_HOSTS": "127.0.0.1"}
    environment = {**os.environ, **own, "VITRINE_DATA_DIR": str(data_dir)}
    server = subprocess.Popen([*command, "--log-level=error"], cwd=ROOT, env=environment, stdout=sys.stderr)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{bind}/map/", timeout=60).close()
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(f"gunicorn ended with {server.returncode}.") from None
                time.sleep(0.1)
        yield f"http://{bind}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def look_at_page(data_dir: Path) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise SystemExit("There is no Chromium here: apt-get install chromium, or set CHROMIUM.")
    with served(data_dir) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
        loaded = Loaded(page.context.new_cdp_session(page))
        started = time.monotonic()
        page.goto(f"{address}/map/")
        page.wait_for_selector("[data-map][data-ready]")
        ready = time.monotonic() - started
        page.wait_for_load_state("networkidle")
        first = {"ready_s": round(ready, 2), "network_idle_s": round(time.monotonic() - started, 2), **loaded.told()}
        page.evaluate(RECORD)
        frames = {}
        for name, clicks in (("whole map", 0), ("three steps nearer", 3), ("six steps nearer", 3)):
            for _ in range(clicks):
                page.locator("[data-zoom-by]").first.click()
                page.wait_for_timeout(250)
            page.wait_for_load_state("networkidle")
            frames[name] = drag(page)
        page.select_option("[data-by]", "colour")
        frames["six steps nearer, coloured"] = drag(page)
        page.locator("[data-whole]").click()
        page.wait_for_timeout(400)
        frames["whole map, coloured"] = drag(page)
        after = loaded.told()
        browser.close()
    return {"first": first, "after_moving": after, "frames": frames}


class Loaded:
    """Counts what comes over the wire."""

    def __init__(self, session: CDPSession) -> None:
        self.requests = self.bytes = 0
        session.on("Network.loadingFinished", self._add)
        session.send("Network.enable")

    def _add(self, event: dict[str, Any]) -> None:
        self.requests += 1
        self.bytes += int(event["encodedDataLength"])

    def told(self) -> dict[str, int]:
        return {"requests": self.requests, "bytes": self.bytes}


def drag(page: Page) -> dict[str, float]:
    """Times between frames in ms, while the mouse draws two circles with the map in its hand."""
    import math

    box = page.locator("canvas").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 200, y)
    page.mouse.down()
    page.mouse.move(x + 190, y)
    page.evaluate("() => { window.frames_seen.length = 0; }")
    for step in range(MOVES):
        angle = 4 * math.pi * step / MOVES
        page.mouse.move(x + 200 * math.cos(angle), y + 200 * math.sin(angle))
    seen = sorted(page.evaluate("() => window.frames_seen"))
    page.mouse.up()
    at = {f"p{share}_ms": round(seen[min(len(seen) - 1, len(seen) * share // 100)], 1) for share in (50, 95, 99)}
    return {"frames": len(seen), **at, "longest_ms": round(seen[-1], 1)}


def table(report: dict[str, Any]) -> str:
    lines = [f"{report['products']} products on {report['grid'][0]} × {report['grid'][1]} cells"]
    lines += [f"  {step:<28} {seconds:>9.2f} s" for step, seconds in report["seconds"].items()]
    lines += [f"  {name:<28} {value}" for name, value in report["quality"].items()]
    lines.append(f"  {report['tiles']} tiles, {report['bytes_stored']} bytes stored")
    first, after = report["page"]["first"], report["page"]["after_moving"]
    lines.append(
        f"The page: {first['bytes']} bytes in {first['requests']} requests, ready after {first['ready_s']} s, network "
        f"idle after {first['network_idle_s']} s; {after['bytes']} bytes with all moving about"
    )
    for name, frames in report["page"]["frames"].items():
        told = "   ".join(f"{each} {frames[f'{each}_ms']:>6} ms" for each in ("p50", "p95", "p99", "longest"))
        lines.append(f"  {name:<28} {told}   {frames['frames']} frames")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

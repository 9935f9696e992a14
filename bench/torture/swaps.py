"""One build after another is published while visitors look: nobody's request fails, no list is of two builds, and how
long the former build goes on answering is told in seconds.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from bench.torture.ground import PATIENCE_S, Report, Server, Shop, visited

USERS = 6
FRESH_EVERY = 10
"""After so many switches between stored builds, one is built and published anew."""
MODELS = ("cheap", "cheaper")
KINDS = ("Hats", "Caps", "Belts")
ASKED = 40
"""Products that visitors ask for."""
IN_A_ROW = 20
"""Answers of the new build in a row, after which every worker is taken to have it."""

Lists = dict[str, list[str]]


@dataclass(frozen=True)
class Publication:
    """When it began, was done, and was seen by every worker (UNIX time), and what its build says of each product."""

    began: float
    done: float
    settled: float
    lists: Lists


def run(count: int, seed: int, folder: Path) -> Report:
    """Half of the publications under gunicorn as it is, half with --preload."""
    report = Report("swaps", seed)
    shop = Shop(folder)
    shop.stock()
    for model in MODELS:
        shop.manage("build_index", "--model", model, "--name", model, "--no-report")
    for half, options in enumerate(((), ("--preload",))):
        under = publish_under_load(shop, (count + 1 - half) // 2, f"{seed} {half}", report, *options)
        report.figures["with --preload" if options else "without --preload"] = under
    return report


def publish_under_load(shop: Shop, count: int, seed: str, report: Report, *options: str) -> dict[str, Any]:
    chance = random.Random(seed)
    published: list[Publication] = []
    with shop.served(*options) as server:
        ids = chance.sample(shop.ids(), ASKED)
        with visited(shop, ids, report.seed, USERS) as notes:
            for number in range(1, count + 1):
                began = time.time()
                if number % FRESH_EVERY == 0:
                    kind = KINDS[number // FRESH_EVERY % len(KINDS)]
                    change = f"Product.objects.filter(pk__lte={number}).update(product_type='{kind}')"
                    shop.python(f"from catalog.models import Product\n{change}")
                    shop.manage("build_index", "--model", MODELS[number // FRESH_EVERY % 2], "--no-report")
                else:
                    shop.manage("builds", "--use", MODELS[number % 2])
                done = time.time()
                settle(server, (shop.folder / "builds" / "CURRENT").read_text().split()[0])
                settled = time.time()
                time.sleep(chance.uniform(0, 0.4))
                published.append(Publication(began, done, settled, lists(server, ids)))
                report.tried += 1
        report.expect(server.deaths() == 0, f"{server.deaths()} workers had to be replaced")
        answered = sum(
            requests.get(f"{server.address}/readyz", timeout=PATIENCE_S).status_code == 200 for _ in range(20)
        )
        report.expect(answered == 20, f"{answered} of 20 requests were answered at the end")
    return judge(report, notes, published)


def settle(server: Server, build: str) -> None:
    """Wait until the build answers, whoever is asked."""
    deadline = time.monotonic() + PATIENCE_S
    told = 0
    while told < IN_A_ROW:
        answers = requests.get(f"{server.address}/api/v1/index/", timeout=PATIENCE_S).json()["build"]
        told = told + 1 if answers == build else 0
        if time.monotonic() > deadline:
            raise RuntimeError(f"{answers} goes on answering where {build} is published.")


def lists(server: Server, ids: list[str]) -> Lists:
    """What the build that answers now says of each product."""
    found = {}
    for product in ids:
        answer = requests.get(f"{server.address}/api/v1/products/{product}/similar/", timeout=PATIENCE_S).json()
        found[product] = [each["product_id"] for each in answer["matches"]]
    return found


def judge(report: Report, notes: list[dict[str, Any]], published: list[Publication]) -> dict[str, Any]:
    failed = [note for note in notes if note["status"] != 200]
    report.failures += [f"{note['name']} {note['product']}: {note['status']} {note.get('trouble')}" for note in failed]
    possible: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for each in published:
        for product, matches in each.lists.items():
            possible[product].add(tuple(matches))
    # What answered before the first publication is known to nobody.
    compared = [note for note in notes if "matches" in note and note["sent"] > published[0].settled]
    mixed = [note for note in compared if tuple(note["matches"]) not in possible[note["product"]]]
    report.failures += [f"the list of {note['product']} is of no build: {note['matches']}" for note in mixed]
    stale_s = 0.0
    for old, new, following in zip(published, published[1:], [*published[2:], None], strict=False):
        until = following.began if following else float("inf")
        for note in compared:
            product = note["product"]
            if new.done <= note["sent"] < until and note["matches"] == old.lists[product] != new.lists[product]:
                stale_s = max(stale_s, note["sent"] - new.done)
    return {
        "publications": len(published),
        "requests": len(notes),
        "failed_requests": len(failed),
        "lists_compared": len(compared),
        "of_no_build": len(mixed),
        "stale_at_most_s": round(stale_s, 3),
    }

#!/usr/bin/env python
"""The same looks in FAISS, in PostgreSQL with pgvector and in Milvus: moved there, and asked the same questions.

    python bench/engines.py --data-dir var [--engines pgvector,milvus] [--queries 500] [--rounds 3] [--postgres URL]

The published index of the data folder (SQLite and FAISS) is where it begins; nothing there is changed but that builds
are added and removed. Servers are started from wheels (requirements-postgres.txt, requirements-milvus.txt), unless
--postgres names one. First the catalogue itself is copied to PostgreSQL (`move_catalogue`), then its looks to each
engine (`move_index`), and answers compared: as the engines answer, and with both looking at every look. `service` is
all of `similar_to` but its database query, one question at a time, in rounds of all engines in turn. Recall is held
against looking at every look. Milvus is Milvus Lite: its figures say nothing of a cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.search import K, best_of, filters, say, service_of, share_found, timed  # noqa: E402

EQUAL = 1000
"""Products whose answers are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--engines", default="pgvector,milvus")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", help="an empty database with pgvector, instead of a server of the bench's own")
    arguments = parser.parse_args()
    wanted = arguments.engines.split(",")
    with contextlib.ExitStack() as stack:
        url = arguments.postgres
        if url is None and "pgvector" in wanted:
            from tests.postgres import postgres

            url = stack.enter_context(postgres(shared_buffers="1GB", max_wal_size="4GB")).url
        if "milvus" in wanted:
            from tests.milvus import milvus

            os.environ["VITRINE_MILVUS"] = stack.enter_context(milvus()).uri
        os.environ |= {"VITRINE_DATA_DIR": str(arguments.data_dir.resolve()), "DJANGO_ALLOWED_HOSTS": "127.0.0.1"}
        os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "DJANGO_DEBUG": "0"}
        report: dict[str, Any] = {}
        if url:
            os.environ["VITRINE_VECTORS_URL"] = url
            report["catalogue"] = catalogue_moved(arguments.data_dir, url)
        import django

        django.setup()
        print(json.dumps({**report, **bench(wanted, arguments.queries, arguments.rounds)}, indent=2))


def catalogue_moved(data_dir: Path, url: str) -> dict[str, Any]:
    """As an operator does it: `migrate`, then `move_catalogue`."""
    environment = {**os.environ, "DATABASE_URL": url}
    spent = {}
    for name, command in (
        ("migrate_s", ["migrate", "-v0"]),
        ("move_s", ["move_catalogue", "--from", f"sqlite:///{data_dir.resolve()}/vitrine.sqlite3", "--json"]),
    ):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        spent[name] = round(time.perf_counter() - started, 1)
    return {"rows": json.loads(done.stdout)["total"], **spent}


def bench(wanted: list[str], asked: int, rounds: int) -> dict[str, Any]:
    from similarity import publishing, serving
    from similarity.builds import current_manifest, open_build
    from similarity.moving import move_index

    first = current_manifest()
    truth_index = open_build(first).index
    some = np.random.default_rng(1).permutation(truth_index.count)[:asked]
    layout = serving.get_index().build.layout
    queries = truth_index.reconstruct(some) * layout.query_weights(layout.default_mix)
    everything = {"": (np.ones(truth_index.count, bool), np.arange(len(queries)))}
    truth = best_of(truth_index, queries, everything, K + 1)[""]
    figures: dict[str, dict[str, Any]] = {"faiss": {}}
    lives, times = {"faiss": serving.get_index()}, dict[str, list[float]]()
    made = []
    try:
        for name in wanted:
            moved = move_index(name)
            made.append(moved.index)
            live = serving.LiveIndex(open_build(publishing.find_build(moved.index)))
            lives[name] = live
            figures[name] = {
                "move_s": moved.seconds,
                "factory": moved.kind["factory"],
                "effort": moved.kind["effort"],
                "same_answers": vars(moved.agreement),
                "same_answers_exactly": exactly_equal(truth_index, live.build.index, queries),
            }
            say(f"{name}: {json.dumps(figures[name])}")
        for name, live in lives.items():
            with answering(live):
                _, found = service_of(live, some)
            figures[name]["recall"] = share_found(found, truth)
        for _ in range(rounds):
            for name, live in lives.items():
                with answering(live):
                    service, _found = service_of(live, some)
                    times.setdefault(name, []).extend(timed(service, len(some)))
        for name, live in lives.items():
            spent = times[name]
            figures[name]["p50_ms"] = round(float(np.quantile(spent, 0.5)), 3)
            figures[name]["p99_ms"] = round(float(np.quantile(spent, 0.99)), 3)
            figures[name]["filters"] = filters(live, truth_index)
    finally:
        for build_id in made:
            publishing.remove_build(build_id)
    return {"products": truth_index.count, "dimension": truth_index.dimension, "engines": figures}


@contextlib.contextmanager
def answering(live: Any) -> Any:
    """Let the services of this process answer from it."""
    from similarity import services

    before = services.live_index
    services.live_index = lambda: live
    try:
        yield
    finally:
        services.live_index = before


def exactly_equal(one: Any, other: Any, queries: Any) -> str:
    """Of how many looks both find the very same nearest, looking at all: the copy is the original."""
    same = 0
    queries = queries[:EQUAL]
    for query in queries:
        wanted = one.search_exactly(query, K)[1][0]
        found = other.search_exactly(query, K)[1][0]
        same += bool(np.allclose(wanted, found, rtol=0, atol=1e-5))
    return f"{same} of {len(queries)}"


if __name__ == "__main__":
    main()

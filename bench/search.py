#!/usr/bin/env python
"""How fast and how truly many products are compared, beside raw FAISS, hnswlib and usearch.

    python bench/search.py --products 200000 [--queries 500] [--rounds 3] [--json]
    python bench/search.py --data-dir var [...]

With --products, the demo's catalogue is imported, embedded, and grown to that size (`manage.py make_catalogue`), and
its index built, in a folder of the bench's own; with --data-dir, the published index there is asked. `ours` is all of
`similar_to` but its database query: what that answers is had beforehand. FAISS is asked on the very same opened index.
The others' graphs have the same links (M = 32) and the same effort in building; their effort in searching is the least
at which their recall@10 is that of ours. One at a time on one thread, in rounds of all engines in turn; milliseconds
are over all rounds. `qps` is batches of 64 on two threads.

Filters: random shares; a category, asked with looks from within and from outside; two wishes; all but a category, asked
with looks from that one. They are asked as the service asks, a selection made before. Recall is held against looking at
every look.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
DEMO = ROOT / "fixtures" / "demo"
K = 10
LINKS, CONSTRUCTION = 32, 100
EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
BATCH, THREADS = 64, 2
ASKED_FILTERED = 100
FIRST = 200
"""Questions after opening, of which the slowest counts."""

Ask = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""Queries (q, dim), k → positions (q, k)."""
Mask = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--data-dir", type=Path, help="ask the published index there instead")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true", help="without hnswlib and usearch")
    parser.add_argument("--opening", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="the default; for scripts that say so")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
        built: dict[str, Any] = {}
        data_dir = arguments.data_dir
        if data_dir is None:
            data_dir = Path(folder)
            built = made(data_dir, arguments.products)
        os.environ |= {"VITRINE_DATA_DIR": str(data_dir.resolve()), "DJANGO_SETTINGS_MODULE": "config.settings"}
        os.environ |= {"DJANGO_DEBUG": "0", "DJANGO_ALLOWED_HOSTS": "127.0.0.1"}
        import django

        django.setup()
        print(json.dumps(opening() if arguments.opening else bench(arguments, built), indent=2))


def made(data_dir: Path, count: int) -> dict[str, Any]:
    """A catalogue of so many products with its index; what building that told."""
    environment = {**os.environ, "VITRINE_DATA_DIR": str(data_dir)}
    said = ""
    for command in (
        ["migrate", "-v0"],
        ["import_fashion", str(DEMO / "fashion.csv"), "--images", str(DEMO / "images")],
        ["build_index", "--model", "efficientnet-lite0", "--no-report"],
        ["make_catalogue", str(count)],
        ["build_index", "--no-report", "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = done.stdout
        print(said, file=sys.stderr)
    report: dict[str, Any] = json.loads(said)
    return report


def bench(arguments: argparse.Namespace, built: dict[str, Any]) -> dict[str, Any]:
    from similarity.serving import get_index

    live = get_index()
    index, manifest = live.build.index, live.build.manifest
    index.prefault()
    random = np.random.default_rng(1)
    asked = random.permutation(index.count)[: arguments.queries]
    looks = index.reconstruct(asked)
    queries = looks * live.build.layout.query_weights(live.build.layout.default_mix)
    truth = best_of(index, queries, {"": (np.ones(index.count, bool), np.arange(len(queries)))}, K + 1)[""]
    effort = index.effort
    say(f"{index.count} looks, effort {effort}")

    service, found = service_of(live, asked)
    recall = share_found(found, truth)
    engines: dict[str, tuple[Callable[[int], object], Ask]] = {
        "ours": (service, ours_in_batches(index)),
        "faiss": raw_faiss(index, queries),
    }
    recalls = {"ours": recall, "faiss": recall_of(index, engines["faiss"][1], queries, truth)}
    times: dict[str, list[float]] = {}
    rates: dict[str, float] = {}
    for name, (_ask, batches) in engines.items():
        rates[name] = throughput(batches, queries)
    for _ in range(arguments.rounds):
        for name, (ask, _batches) in engines.items():
            times.setdefault(name, []).extend(timed(ask, len(queries)))
    if not arguments.only_ours:
        for name, engine in (("hnswlib", hnswlib_engine), ("usearch", usearch_engine)):
            ask, batches, recalls[name] = engine(index, queries, truth, recalls["faiss"])
            rates[name] = throughput(batches, queries)
            # In turn with ours again, which may be slower or faster by now.
            again: list[float] = []
            for _ in range(arguments.rounds):
                times.setdefault(name, []).extend(timed(ask, len(queries)))
                again += timed(service, len(queries))
            say(
                f"{name}: ours beside it p50 {np.median(again):.3f} ms, {throughput(engines['ours'][1], queries):.0f}/s"
            )
            del ask, batches
            gc.collect()
    figures = {
        name: {
            "p50_ms": round(float(np.quantile(spent, 0.5)), 3),
            "p99_ms": round(float(np.quantile(spent, 0.99)), 3),
            "recall": recalls[name],
            "qps": round(rates[name]),
        }
        for name, spent in times.items()
    }
    folder = Path(os.environ["VITRINE_DATA_DIR"]) / "builds" / manifest.id
    return {
        "products": index.count,
        "dimension": index.dimension,
        "factory": manifest.fit["index"]["factory"],
        "effort": effort,
        **figures,
        "ours_beside_faiss": round(figures["ours"]["p50_ms"] / figures["faiss"]["p50_ms"], 2),
        "filters": filters(live),
        "index_mib": round((folder / type(index).file_name).stat().st_size / 2**20),
        "vectors_mib": round(4 * index.count * index.dimension / 2**20),
        **opened(),
        "build_s": built.get("seconds"),
        "build_peak_mib": built.get("peak_mib"),
    }


# --- ours --------------------------------------------------------------------------------------
def service_of(live: Any, asked: NDArray[np.int64]) -> tuple[Callable[[int], object], list[list[float]]]:
    """Asks the service for what is like the product at asked[i], without the query for products; and the scores that it
    finds."""
    from similarity import products, services

    rows = live.build.rows[asked].tolist()
    known = products.visible_by_row(rows)
    answers: dict[tuple[int, ...], dict[int, Any]] = {}
    query = products.visible_by_row

    def from_memory(wanted: Any) -> dict[int, Any]:
        key = tuple(wanted)
        if key not in answers:
            answers[key] = query(wanted)
        return answers[key]

    products.visible_by_row = from_memory  # type: ignore[assignment]

    def ask(at: int) -> Any:
        return services.similar_to(known[rows[at]], K, curated=False)

    found = [[float(match.score) for match in ask(at).matches] for at in range(len(rows))]
    return ask, found


def share_found(found: list[list[float]], truth: NDArray[np.float32], k: int = K) -> float:
    """Of the k best others, the share whose scores are among those found. The best of all is the product itself."""
    shares = [sum(score >= least - 1e-4 for score in scores) / k for scores, least in zip(found, truth, strict=True)]
    return round(float(np.mean(np.minimum(shares, 1))), 4)


def ours_in_batches(index: Any) -> Ask:
    import faiss

    def ask(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(THREADS)
        positions: NDArray[np.int64] = index.search(queries, k)[0]
        faiss.omp_set_num_threads(1)
        return positions

    return ask


def raw_faiss(index: Any, queries: NDArray[np.float32]) -> tuple[Callable[[int], object], Ask]:
    """The very index, asked without us."""
    import faiss

    raw = index._index
    params = index._params(K + 1)

    def one(at: int) -> object:
        return raw.search(queries[at : at + 1], K + 1, params=params)

    def batches(some: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(THREADS)
        positions: NDArray[np.int64] = raw.search(some, k, params=params)[1]
        faiss.omp_set_num_threads(1)
        return positions

    return one, batches


def opening() -> dict[str, float]:
    """In a process of its own, the files in the system's memory: what opening costs, and the slowest question after."""
    from similarity import builds
    from similarity.indexes import get_engine
    from similarity.serving import LiveIndex

    builds.current_manifest()
    get_engine()  # a process that switches has imported FAISS
    started = time.perf_counter()
    live = LiveIndex(builds.open_current())
    open_ms = 1000 * (time.perf_counter() - started)
    random = np.random.default_rng(4)
    slowest = 0.0
    weights = live.build.layout.query_weights(live.build.layout.default_mix)
    for row in live.build.rows[random.permutation(live.count)[:FIRST]].tolist():
        started = time.perf_counter()
        at = live.build.positions_of(np.array([row]))
        live.search(live.build.index.reconstruct(at)[0] * weights, K + 5)
        slowest = max(slowest, 1000 * (time.perf_counter() - started))
    return {"open_ms": round(open_ms, 1), "slowest_after_opening_ms": round(slowest, 1)}


def opened() -> dict[str, float]:
    command = [sys.executable, __file__, "--opening", "--data-dir", os.environ["VITRINE_DATA_DIR"]]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


# --- others ------------------------------------------------------------------------------------
def hnswlib_engine(
    index: Any, queries: NDArray[np.float32], truth: NDArray[np.float32], wanted: float
) -> tuple[Callable[[int], object], Ask, float]:
    import hnswlib

    other = hnswlib.Index(space="ip", dim=index.dimension)
    other.init_index(max_elements=index.count, M=LINKS, ef_construction=CONSTRUCTION)
    for start in range(0, index.count, 65_536):
        stop = min(index.count, start + 65_536)
        other.add_items(index.chunk(start, stop), np.arange(start, stop), num_threads=THREADS)

    def one(at: int) -> object:
        return other.knn_query(queries[at : at + 1], k=K + 1, num_threads=1)

    def batches(asked: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return other.knn_query(asked, k=k, num_threads=THREADS)[0].astype(np.int64)  # type: ignore[no-any-return]

    recall = 0.0
    for effort in EFFORTS:
        other.set_ef(effort)
        if (recall := recall_of(index, batches, queries, truth)) >= wanted:
            break
    say(f"hnswlib: effort {effort}")
    return one, batches, recall


def usearch_engine(
    index: Any, queries: NDArray[np.float32], truth: NDArray[np.float32], wanted: float
) -> tuple[Callable[[int], object], Ask, float]:
    from usearch.index import Index

    other = Index(ndim=index.dimension, metric="ip", dtype="f32", connectivity=LINKS, expansion_add=CONSTRUCTION)
    for start in range(0, index.count, 65_536):
        stop = min(index.count, start + 65_536)
        other.add(np.arange(start, stop), index.chunk(start, stop), threads=THREADS)

    def one(at: int) -> object:
        return other.search(queries[at], K + 1, threads=1)

    def batches(asked: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        found = other.search(asked, k, threads=THREADS)
        return np.asarray(found.keys).reshape(len(asked), -1).astype(np.int64)

    recall = 0.0
    for effort in EFFORTS:
        other.expansion_search = effort
        if (recall := recall_of(index, batches, queries, truth)) >= wanted:
            break
    say(f"usearch: effort {effort}")
    return one, batches, recall


# --- filters -----------------------------------------------------------------------------------
def shapes(live: Any) -> Iterator[tuple[str, Mask, Mask]]:
    """(name, the catalogue's products that may answer, the looks that are asked with)."""
    from similarity import products

    columns = products.columns()
    random = np.random.default_rng(2)
    everything = np.ones(live.count, dtype=bool)
    for percent in (50, 10, 1, 0.1):
        yield f"random_{percent}", columns.visible & (random.random(len(columns)) < percent / 100), everything

    def commonest(name: str, place: int) -> str:
        counts = columns.counts(name, columns.found({}))
        return sorted(counts, key=lambda value: -counts[value])[place]

    codes, values = products.label_codes(live.build.rows)["category"]
    of_asked = np.array(values, dtype=object)[codes]
    largest, second = commonest("category", 0), commonest("category", 1)
    category = columns.matching({"category": [largest]})
    yield "category", category, of_asked == largest
    yield "category_outside", category, of_asked != largest
    wishes = {"sub_category": [commonest("sub_category", 0)], "colour": [commonest("colour", 0)]}
    yield "two_wishes", columns.matching(wishes), everything
    yield "correlated_outside", columns.visible & ~columns.matching({"category": [second]}), of_asked == second


def filters(live: Any, vectors: Any = None) -> list[dict[str, Any]]:
    """What each shape costs and finds; `vectors`: an index of the same looks that is nearer, to tell the truth from."""
    from similarity import products

    columns = products.columns()
    exactly, slack = live.build.calibration.way_of(live.build.layout.default_mix)
    weights = live.build.layout.query_weights(live.build.layout.default_mix)
    random = np.random.default_rng(3)
    asked, wanted = {}, {}
    for name, mask, from_where in shapes(live):
        chosen = live.choose(columns, mask, key=name)
        at = random.permutation(np.flatnonzero(from_where))[:ASKED_FILTERED]
        asked[name] = (chosen, live.build.index.reconstruct(at) * weights)
        wanted[name] = chosen.selection.inside
    queries = np.concatenate([queries for _chosen, queries in asked.values()])
    ends = np.cumsum([len(queries) for _chosen, queries in asked.values()])
    lines = {name: np.arange(end - len(asked[name][1]), end) for name, end in zip(asked, ends, strict=True)}
    truth = best_of(vectors or live.build.index, queries, {name: (wanted[name], lines[name]) for name in asked}, K)
    report = []
    for name, (chosen, some) in asked.items():
        live.search(some[0], K, chosen, exactly=exactly, slack=slack)  # the selection is ready
        spent, found, plans = [], [], []
        for query in some:
            started = time.perf_counter()
            hits = live.search(query, K, chosen, exactly=exactly, slack=slack)
            spent.append(1000 * (time.perf_counter() - started))
            found.append(hits.scores.tolist())
            plans.append(hits.plan)
        ways = sorted({plan.how for plan in plans}, key=[plan.how for plan in plans].count, reverse=True)
        report.append(
            {
                "shape": name,
                "selectivity": round(chosen.selection.share, 5),
                "plan": ", ".join(ways),
                "p50_ms": round(float(np.median(spent)), 3),
                "p99_ms": round(float(np.quantile(spent, 0.99)), 3),
                "recall": share_found(found, truth[name], min(K, int(wanted[name].sum()))),
                "looked_at": int(np.median([plan.looked_at for plan in plans])),
            }
        )
        say(json.dumps(report[-1]))
    return report


# --- measuring ---------------------------------------------------------------------------------
def best_of(
    index: Any, queries: NDArray[np.float32], shapes: dict[str, tuple[Mask, NDArray[np.int64]]], k: int
) -> dict[str, NDArray[np.float32]]:
    """For each shape (a mask of positions, lines of queries) the score (q,) of the k-th best."""
    best = {name: np.full((len(lines), k), -np.inf, dtype=np.float32) for name, (_mask, lines) in shapes.items()}
    for start in range(0, index.count, 16_384):
        stop = min(index.count, start + 16_384)
        scores = queries @ index.chunk(start, stop).T
        for name, (mask, lines) in shapes.items():
            here = np.concatenate([best[name], scores[lines][:, mask[start:stop]]], axis=1)
            best[name] = -np.partition(-here, k - 1, axis=1)[:, :k]
    return {name: found.min(axis=1) for name, found in best.items()}


def recall_of(index: Any, ask: Ask, queries: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """The share of the best that is found; equal scores count as found."""
    positions = ask(queries, K + 1)
    scores = np.stack([index.reconstruct(line) @ query for line, query in zip(positions, queries, strict=True)])
    return round(float((scores >= truth[:, np.newaxis] - 1e-4).mean()), 4)


def timed(ask: Callable[[int], object], count: int) -> list[float]:
    """Milliseconds of each, one at a time."""
    spent = []
    for at in range(count):
        started = time.perf_counter()
        ask(at)
        spent.append(1000 * (time.perf_counter() - started))
    return spent


def throughput(ask: Ask, queries: NDArray[np.float32]) -> float:
    """Queries a second, in batches of BATCH; the better of two runs."""
    rates = []
    for _ in range(2):
        started = time.perf_counter()
        for start in range(0, len(queries), BATCH):
            ask(queries[start : start + BATCH], K)
        rates.append(len(queries) / (time.perf_counter() - started))
    return max(rates)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

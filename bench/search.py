#!/usr/bin/env python
"""How fast and how truly an index of many products answers, beside raw FAISS, hnswlib and usearch.

    python bench/search.py --products 200000 [--data-dir var] [--queries 500] [--rounds 3] [--json]

The looks are grown (`similarity.growing`) from those of the published build in --data-dir, or, without one, from the
demo's, which are embedded first. Everything is asked one look at a time on one thread, in rounds of all engines in
turn; milliseconds are over all rounds. `qps` is batches of 64 on two threads. The graphs have the same links (M = 32)
and the same effort in building; the others' effort in searching is the least at which their recall@10 is that of ours.

Filters: random shares; a category, asked with looks from within and from outside; two wishes; a category asked with
looks from the one that is least like it. Recall is held against looking at every look.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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

Ask = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""Queries (q, dim), k → positions (q, k)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--data-dir", type=Path, help="whose published build's looks others are grown from")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true", help="without hnswlib and usearch")
    parser.add_argument("--json", action="store_true", help="the default; for scripts that say so")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
        data_dir = arguments.data_dir or demo_built(Path(folder))
        os.environ |= {"VITRINE_DATA_DIR": str(data_dir.resolve()), "DJANGO_SETTINGS_MODULE": "config.settings"}
        import django

        django.setup()
        print(json.dumps(bench(arguments, Path(folder)), indent=2))


def demo_built(folder: Path) -> Path:
    """A data folder with the demo's catalogue, embedded and built."""
    environment = {**os.environ, "VITRINE_DATA_DIR": str(folder / "demo")}
    for command in (
        ["migrate", "-v0"],
        ["import_fashion", str(DEMO / "fashion.csv"), "--images", str(DEMO / "images")],
        ["build_index", "--model", "efficientnet-lite0", "--no-report"],
    ):
        subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True, stdout=sys.stderr
        )
    return folder / "demo"


def bench(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from similarity.growing import Seeds, grow
    from similarity.indexes.faiss import FaissIndex
    from similarity.serving import get_index

    live = get_index()
    build = live.build
    real = build.index.reconstruct(np.arange(live.count))
    seeds = Seeds.of(real)
    looks, parents = grow(seeds, arguments.products)
    looks *= np.float32(np.linalg.norm(real[0]))  # as the weights of the default mix make them
    say(f"{len(looks)} looks grown from {len(real)}, noise {seeds.noise:.2f}")
    labels = labels_of(parents)

    random = np.random.default_rng(1)
    asked = random.permutation(len(looks))[: arguments.queries]
    queries = looks[asked]
    truth = best_of(queries, looks, None)

    before = forget_peak()
    started = time.perf_counter()
    ours, effort, recall = built(looks, queries, truth)
    build_s = time.perf_counter() - started
    build_peak = peak_mib() - before
    ours.save(folder)
    size = (folder / FaissIndex.file_name).stat().st_size
    started = time.perf_counter()
    FaissIndex.load(folder)
    open_ms = 1000 * (time.perf_counter() - started)
    say(f"ours: built in {build_s:.0f} s, effort {effort}, recall {recall:.4f}, {size / 2**20:.0f} MiB")

    engines: dict[str, tuple[Ask, Ask]] = {
        "ours": (ours_ask(ours), ours_ask(ours, THREADS)),
        "faiss": raw_faiss(ours, effort),
    }
    if not arguments.only_ours:
        engines |= {"hnswlib": hnswlib_engine(looks, queries, truth, recall)}
        engines |= {"usearch": usearch_engine(looks, queries, truth, recall)}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(arguments.rounds):
        for name, (ask, _batches) in engines.items():
            times[name] += timed(ask, queries)
    figures = {
        name: {
            "p50_ms": round(float(np.quantile(times[name], 0.5)), 3),
            "p99_ms": round(float(np.quantile(times[name], 0.99)), 3),
            "recall": recall_of(ask(queries, K), queries, looks, truth),
            "qps": round(throughput(batches, queries)),
        }
        for name, (ask, batches) in engines.items()
    }
    return {
        "products": len(looks),
        "dimension": int(looks.shape[1]),
        "grown_from": len(real),
        "factory": FaissIndex.choose(len(looks), int(looks.shape[1]), None),
        "effort": effort,
        **figures,
        "ours_beside_faiss": round(figures["ours"]["p50_ms"] / figures["faiss"]["p50_ms"], 2),
        "filters": [
            filtered(ours, looks, queries_of, shape, among) for shape, among, queries_of in shapes(looks, labels, asked)
        ],
        "index_mib": round(size / 2**20),
        "vectors_mib": round(looks.nbytes / 2**20),
        "open_ms": round(open_ms),
        "build_s": round(build_s, 1),
        "build_peak_mib": round(build_peak),
    }


# --- ours --------------------------------------------------------------------------------------
def built(looks: NDArray[np.float32], queries: NDArray[np.float32], truth: NDArray[np.float32]) -> Any:
    """As a build chooses, measures and tunes it."""
    from similarity.calibration import LEAST_RECALL
    from similarity.indexes.faiss import FaissIndex

    index = FaissIndex.build(looks, FaissIndex.choose(len(looks), int(looks.shape[1]), None))
    ask = ours_ask(index)
    recall = recall_of(ask(queries, K), queries, looks, truth)
    while recall < LEAST_RECALL and index.harder():
        recall = recall_of(ask(queries, K), queries, looks, truth)
    return index, index.effort, recall


def ours_ask(index: Any, threads: int = 1) -> Ask:
    import faiss

    def ask(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(threads)
        positions: NDArray[np.int64] = index.search(queries, k)[0]
        return positions

    return ask


def raw_faiss(index: Any, effort: int | None) -> tuple[Ask, Ask]:
    """The very index, asked without us."""
    import faiss

    raw = index._index
    params = faiss.SearchParametersHNSW(efSearch=effort) if effort else None  # type: ignore[attr-defined]

    def asking(threads: int) -> Ask:
        def ask(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
            faiss.omp_set_num_threads(threads)
            positions: NDArray[np.int64] = raw.search(queries, k, params=params)[1]
            return positions

        return ask

    return asking(1), asking(THREADS)


# --- others ------------------------------------------------------------------------------------
def hnswlib_engine(
    looks: NDArray[np.float32], queries: NDArray[np.float32], truth: NDArray[np.float32], wanted: float
) -> tuple[Ask, Ask]:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=looks.shape[1])
    index.init_index(max_elements=len(looks), M=LINKS, ef_construction=CONSTRUCTION)
    index.add_items(looks, num_threads=THREADS)

    def asking(threads: int) -> Ask:
        def ask(asked: NDArray[np.float32], k: int) -> NDArray[np.int64]:
            return index.knn_query(asked, k=k, num_threads=threads)[0].astype(np.int64)  # type: ignore[no-any-return]

        return ask

    for effort in EFFORTS:
        index.set_ef(effort)
        if recall_of(asking(1)(queries, K), queries, looks, truth) >= wanted:
            break
    say(f"hnswlib: effort {effort}")
    return asking(1), asking(THREADS)


def usearch_engine(
    looks: NDArray[np.float32], queries: NDArray[np.float32], truth: NDArray[np.float32], wanted: float
) -> tuple[Ask, Ask]:
    from usearch.index import Index

    index = Index(ndim=looks.shape[1], metric="ip", dtype="f32", connectivity=LINKS, expansion_add=CONSTRUCTION)
    index.add(np.arange(len(looks)), looks, threads=THREADS)

    def asking(threads: int) -> Ask:
        def ask(asked: NDArray[np.float32], k: int) -> NDArray[np.int64]:
            found = index.search(asked, k, threads=threads)
            return np.asarray(found.keys).reshape(len(asked), -1).astype(np.int64)

        return ask

    for effort in EFFORTS:
        index.expansion_search = effort
        if recall_of(asking(1)(queries, K), queries, looks, truth) >= wanted:
            break
    say(f"usearch: effort {effort}")
    return asking(1), asking(THREADS)


# --- filters -----------------------------------------------------------------------------------
def labels_of(parents: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """(n,) codes of category and colour, as those of the products that the looks were grown from."""
    from similarity import products
    from similarity.serving import get_index

    found = products.labels_of(get_index().build.rows)
    return {
        name: np.unique(np.array(found[name]), return_inverse=True)[1].reshape(-1)[parents]
        for name in ("category", "sub_category", "product_type", "colour")
    }


def shapes(
    looks: NDArray[np.float32], labels: dict[str, NDArray[np.int64]], asked: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float32]]]:
    """(name, positions asked for, queries)."""
    random = np.random.default_rng(2)
    for percent in (50, 10, 1, 0.1):
        among = np.sort(random.permutation(len(looks))[: max(K, int(len(looks) * percent / 100))])
        yield f"random_{percent}", among, looks[asked]
    category = labels["category"]
    largest, second = np.argsort(-np.bincount(category))[:2]
    within = np.flatnonzero(category == largest)
    yield "category", within, looks[asked[category[asked] == largest]]
    yield "category_outside", within, looks[asked[category[asked] != largest]]
    kind, colour = labels["sub_category"], labels["colour"]
    wanted = np.flatnonzero((kind == np.bincount(kind).argmax()) & (colour == np.bincount(colour).argmax()))
    yield "two_wishes", wanted, looks[asked]
    half = np.flatnonzero(category != second)
    yield "correlated_outside", half, looks[asked[category[asked] == second]]


def filtered(
    index: Any, looks: NDArray[np.float32], queries: NDArray[np.float32], shape: str, among: NDArray[np.int64]
) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(1)
    some = queries[:100]
    truth = best_of(some, looks, among)
    spent, found = [], []
    for query in some:
        started = time.perf_counter()
        positions = index.search(query[np.newaxis], K, among)[0]
        spent.append(1000 * (time.perf_counter() - started))
        found.append(positions[0])
    share = len(among) / len(looks)
    say(f"{shape}: {share:.3%}, p50 {statistics.median(spent):.2f} ms")
    return {
        "shape": shape,
        "selectivity": round(share, 5),
        "p50_ms": round(statistics.median(spent), 3),
        "p99_ms": round(float(np.quantile(spent, 0.99)), 3),
        "recall": recall_of(np.array(found), some, looks, truth),
    }


# --- measuring ---------------------------------------------------------------------------------
def best_of(
    queries: NDArray[np.float32], looks: NDArray[np.float32], among: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """(q,) the score of the tenth best."""
    some = np.arange(len(looks)) if among is None else among
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    for start in range(0, len(some), 65_536):
        scores = np.concatenate([best, queries @ looks[some[start : start + 65_536]].T], axis=1)
        best = -np.partition(-scores, K - 1, axis=1)[:, :K]
    tenth: NDArray[np.float32] = best.min(axis=1)
    return tenth


def recall_of(
    positions: NDArray[np.int64], queries: NDArray[np.float32], looks: NDArray[np.float32], tenth: NDArray[np.float32]
) -> float:
    """The share of the ten best that were found; equal scores count as found."""
    scores = np.einsum("qd,qkd->qk", queries, looks[positions])
    return round(float((scores >= tenth[:, np.newaxis] - 1e-4).mean()), 4)


def timed(ask: Ask, queries: NDArray[np.float32]) -> list[float]:
    """Milliseconds of each, one at a time."""
    spent = []
    for query in queries:
        started = time.perf_counter()
        ask(query[np.newaxis], K)
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


def forget_peak() -> float:
    """MiB that the process takes now; its peak counts from here (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

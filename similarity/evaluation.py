"""Judging a ranking by the catalogue's own labels: leave-one-out precision at k. The measure is pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similarity import products
from similarity.builds import BuildError
from similarity.mix import Mix
from similarity.services import SimilarityUnavailable
from similarity.serving import LiveIndex, get_index
from similarity.vectors import Matrix, digest_matrix

LABELS = (*((label,) for label in products.LABELS), ("product_type", "gender"), ("product_type", "gender", "colour"))
BLOCK = 512


@dataclass(frozen=True)
class Precision:
    """Shares of neighbours that bear the query's label, over `queries` queries; `left_out` had none to judge by."""

    p_at_1: float | None
    p_at_k: float | None
    queries: int
    left_out: int


@dataclass(frozen=True)
class Evaluation:
    model: str
    mix: Mix
    products: int
    k: int
    labels: Mapping[str, Precision]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "mix": dict(self.mix),
            "products": self.products,
            "k": self.k,
            "labels": {name: vars(precision) for name, precision in self.labels.items()},
        }


def evaluate_similarity(k: int = 10, mix: Mix | None = None) -> Evaluation:
    """Precision of the published index over all visible products that have a look, under the mix (None: default).

    Raises SimilarityUnavailable without an index, MixError for a mix that makes no sense.
    """
    try:
        live = get_index()
    except BuildError as error:
        raise SimilarityUnavailable(str(error)) from error
    mix, _ = live.build.layout.usable_mix(mix)
    keys, values = [], []
    for row, digest, *labels in products.visible_products().values_list(
        "embedding_row", "image_sha256", *products.LABELS
    ):
        keys.append((row, digest))
        values.append(labels)
    looks, known = _looks(live, keys)
    table = [dict(zip(products.LABELS, labels, strict=True)) for labels, has in zip(values, known, strict=True) if has]
    digests = [digest for (_, digest), has in zip(keys, known, strict=True) if has]
    same_picture = np.unique(digests, return_inverse=True)[1] if digests else np.empty(0, np.int64)
    neighbours = leave_one_out(looks * live.build.layout.query_weights(mix), looks, same_picture, k)
    return Evaluation(
        model=live.build.manifest.model,
        mix=mix,
        products=len(table),
        k=k,
        labels={"+".join(names): precision_of(neighbours, label_codes(table, names)) for names in LABELS},
    )


def _looks(live: LiveIndex, keys: Sequence[tuple[int, str]]) -> tuple[Matrix, NDArray[np.bool_]]:
    """The looks (m, dimension) of the pictures that have one, and which of them (n,) these are."""
    digests = digest_matrix([digest for _, digest in keys])
    found = [live.look_of(row, digest) for (row, _), digest in zip(keys, digests, strict=True)]
    known = np.array([look is not None for look in found], dtype=bool)
    looks = [look for look in found if look is not None]
    return np.array(looks, dtype=np.float32).reshape(len(looks), live.build.layout.dimension), known


def label_codes(table: Sequence[Mapping[str, str]], names: Sequence[str]) -> NDArray[np.int64]:
    """(n,) a number for each combination of these labels; -1 where one of them is empty."""
    codes: dict[tuple[str, ...], int] = {}
    combinations = [tuple(line[name] for name in names) for line in table]
    return np.array(
        [codes.setdefault(labels, len(codes)) if all(labels) else -1 for labels in combinations], dtype=np.int64
    )


def leave_one_out(queries: Matrix, looks: Matrix, same_picture: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k nearest of each of n products among the others: (n, k) positions, -1 where there are no more.

    `queries` and `looks` (n, dim) belong to the same products line by line; two products of one
    `same_picture` group (n,) never count as each other's match.
    """
    n = len(looks)
    neighbours = np.full((n, k), -1, dtype=np.int64)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        scores = queries[block] @ looks.T
        scores[same_picture[block, np.newaxis] == same_picture[np.newaxis]] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        reachable = np.take_along_axis(scores, order, axis=1) > -np.inf
        neighbours[block, : order.shape[1]] = np.where(reachable, order, -1)
    return neighbours


def precision_of(neighbours: NDArray[np.int64], codes: NDArray[np.int64]) -> Precision:
    """How often neighbours (n, k; -1 for none) bear the label (n,; -1 for none) of their query.

    Queries without label are left out. Neighbours without label count as wrong: the reader asked for that label.
    """
    judged = (codes >= 0) & (neighbours[:, 0] >= 0) if len(codes) else np.zeros(0, bool)
    if not judged.any():
        return Precision(None, None, 0, len(codes))
    found, own = neighbours[judged], codes[judged, np.newaxis]
    right = (codes[found] == own) & (found >= 0)
    share = right.sum(axis=1) / (found >= 0).sum(axis=1)
    return Precision(
        p_at_1=round(float(right[:, 0].mean()), 4),
        p_at_k=round(float(share.mean()), 4),
        queries=int(judged.sum()),
        left_out=int((~judged).sum()),
    )

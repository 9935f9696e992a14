"""Labels in doubt: products whose neighbours say otherwise.

A product's label is in doubt where most of what looks like it bears another one. The network's own ranking is asked,
and colour's for colours: `kind` has learned the very labels that are to be doubted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from similarity import products
from similarity.evaluation import catalogue_of
from similarity.ranking import leave_one_out
from similarity.services import live_index
from similarity.vectors import unit

NEIGHBOURS = 10


@dataclass(frozen=True)
class Doubt:
    """One label of one product. `own` and `other` are shares of its neighbours, from 0 to 1."""

    product_id: str
    label: str
    value: str
    suggestion: str
    own: float
    other: float
    neighbours: Sequence[str]
    """Product ids of those that bear the suggestion, the nearest first."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "neighbours": list(self.neighbours)}


def label_doubts(labels: Sequence[str] = products.LABELS, least: float = 0.5) -> list[Doubt]:
    """The doubts, the worst first: where another value has a share of neighbours larger than the own by `least`.

    Raises SimilarityUnavailable without an index.
    """
    ids, catalogue = catalogue_of(live_index().build.manifest.identities)
    rankings = {}
    for space in {_space_of(label) for label in labels}:
        vectors = unit(catalogue.vectors[space])
        rankings[space] = leave_one_out(vectors, vectors, catalogue.groups, NEIGHBOURS)
    doubts = []
    for label in labels:
        values = catalogue.labels[label]
        neighbours = rankings[_space_of(label)]
        for at, (own, found) in enumerate(zip(values, neighbours.tolist(), strict=True)):
            there = [other for other in found if other >= 0 and values[other]]
            if not own or not there:
                continue
            counts = Counter(values[other] for other in there)
            mine = counts.pop(own, 0)
            if not counts:
                continue
            suggestion, most = counts.most_common(1)[0]
            if (most - mine) / len(there) >= least:
                doubts.append(
                    Doubt(
                        product_id=ids[at],
                        label=label,
                        value=own,
                        suggestion=suggestion,
                        own=round(mine / len(there), 3),
                        other=round(most / len(there), 3),
                        neighbours=[ids[other] for other in there if values[other] == suggestion],
                    )
                )
    return sorted(doubts, key=lambda doubt: doubt.own - doubt.other)


def _space_of(label: str) -> str:
    """Whose neighbours judge it."""
    return "colour" if label == "colour" else "style"

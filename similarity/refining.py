"""Refining a ranking before it is shown: copies collapsed, variety, a cut-off, and wishes with the way they give in.

Pure NumPy. The ranking itself is `similarity.services`'; what is measured by `similarity.evaluation` is never refined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils.translation import gettext
from numpy.typing import NDArray

from similarity.vectors import Matrix, unit

if TYPE_CHECKING:
    from django.db.models import QuerySet

CALIBRATED = "calibrated"
LADDER = ("usage", "colour", "product_type", "sub_category", "category", "gender")
"""Which wish gives in first where too few products fulfil them all."""

Wishes = Mapping[str, tuple[str, ...]]
"""Label → the values that a match may have."""


@dataclass(frozen=True)
class Refinement:
    """What is done to a ranking; by default nothing.

    `collapse`: products with the same picture, or nearly the same, count as one. `diversity`: from 0 (none) to 1, how
    much a match that is like those before it gives way to one that is not. `min_score`: matches below it are left
    out; CALIBRATED is the build's own cut-off for the mix, where one look is asked with. `same` and `differ`: labels
    that matches share with what was asked, and those that they do not; `only`: values that they must have. Where
    fewer than k fulfil these wishes and `relax` is on, one wish after another gives in, in the order of LADDER.
    `words`: a search that every match answers; what somebody has typed gives in to nothing, and neither does `among`:
    products, as a query set, of which every match is one.
    """

    collapse: bool = False
    diversity: float = 0.0
    min_score: float | str | None = None
    same: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    only: Wishes = field(default_factory=dict)
    relax: bool = True
    words: str = ""
    among: QuerySet[Any] | None = None


RAW = Refinement()


@dataclass(frozen=True)
class Relaxed:
    """A wish (a label) that has given in: the values `wanted`; `to` "related" ones, or to "any"."""

    wish: str
    wanted: tuple[str, ...]
    to: str


def parse_min_score(text: str) -> float | str:
    """A number, or CALIBRATED. Raises ValueError, in words, for anything else."""
    if text == CALIBRATED:
        return text
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(
            gettext("'%(score)s' is neither a number nor '%(word)s'.") % {"score": text, "word": CALIBRATED}
        )
    return score


def relaxed_words(relaxed: Relaxed) -> str:
    """For an operator: "colour need no longer be Navy Blue, related values may stand in"."""
    if not relaxed.wanted:
        return f"the product has no {relaxed.wish}, so nothing can be asked of it"
    stand_in = "related values may stand in" if relaxed.to == "related" else "any value may stand in"
    return f"{relaxed.wish} need no longer be {' or '.join(relaxed.wanted)}, {stand_in}"


def rungs(
    wishes: Wishes, related: Callable[[str, Sequence[str]], tuple[str, ...]]
) -> Iterator[tuple[Wishes, tuple[Relaxed, ...]]]:
    """The wishes and nothing relaxed, then what remains of them as one after another gives in, and which did.

    A wish gives in by two steps where it can: to the values that `related(label, wanted)` names, then to any.
    """
    held = dict(wishes)
    relaxed: dict[str, Relaxed] = {}
    yield dict(held), ()
    for label in sorted(wishes, key=lambda name: LADDER.index(name) if name in LADDER else -1):
        wanted = wishes[label]
        wider = related(label, wanted)
        if set(wider) - set(wanted):
            held[label] = wider
            relaxed[label] = Relaxed(label, wanted, "related")
            yield dict(held), tuple(relaxed.values())
        del held[label]
        relaxed[label] = Relaxed(label, wanted, "any")
        yield dict(held), tuple(relaxed.values())


def leaders(
    pictures: Sequence[str],
    near: NDArray[np.bool_] | None,
    pinned: int = 0,
    apart: Sequence[tuple[int, int]] = (),
) -> NDArray[np.int64]:
    """(n,) for each of n candidates, best first, the first one that shows the same: itself, where none before does.

    `pictures` are digests; `near` (n, n) says which pictures are nearly the same. A candidate is held against leaders
    only, so that a chain of small changes does not make one of all. The first `pinned` always stand for themselves;
    the pairs `apart`, each with the earlier one first, are not the same whatever they look like.
    """
    led = np.arange(len(pictures))
    names = np.unique(np.array(pictures), return_inverse=True)[1]
    distinct: dict[int, list[int]] = {}
    for one, other in apart:
        distinct.setdefault(other, []).append(one)
    for at in range(pinned, len(pictures)):
        same = names[:at] == names[at]
        if near is not None:
            same |= near[at, :at]
        same &= led[:at] == np.arange(at)
        same[distinct.get(at, [])] = False
        if same.any():
            led[at] = same.argmax()
    return led


def nearly_same(parts: Mapping[str, Matrix], least: Mapping[str, float]) -> NDArray[np.bool_]:
    """(n, n) which of n candidates are nearly the same picture: as alike as `least` says in each of its parts.

    `parts`, by name, (n, dim); vectors of zeros are like nothing.
    """
    alike = [unit(parts[name]) @ unit(parts[name]).T >= cosine for name, cosine in least.items()]
    near: NDArray[np.bool_] = np.logical_and.reduce(alike)
    return near


def diversified(
    scores: NDArray[np.float32], likeness: Matrix, stages: NDArray[np.int64], k: int, diversity: float
) -> list[int]:
    """Positions of k of n candidates by maximal marginal relevance (Carbonell and Goldstein, "The use of MMR", 1998).

    Each next one has the largest `(1 - diversity)·score - diversity·(its largest likeness to one chosen)`. `scores`
    (n,); `likeness` (n, n) on the same scale; `stages` (n,): those of a lower stage come first whatever they score.
    """
    chosen: list[int] = []
    left = np.ones(len(scores), dtype=bool)
    nearest = np.zeros(len(scores), dtype=np.float32)
    while left.any() and len(chosen) < k:
        open_ = left & (stages == stages[left].min())
        worth = np.where(open_, (1 - diversity) * scores - diversity * nearest, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, likeness[best]) if len(chosen) > 1 else likeness[best].copy()
    return chosen

"""Products that show the same picture, or nearly the same, for people to decide about.

What somebody has told apart does not come again, and is no longer collapsed on pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from similarity import products
from similarity.calibration import near_groups
from similarity.indexes import VectorIndexError
from similarity.models import DistinctPair
from similarity.products import Picture, Product
from similarity.refining import nearly_same
from similarity.services import SimilarityUnavailable, live_index
from similarity.vectors import Matrix, digest_matrix, groups_of

MAX_PRODUCTS = 5000
"""Near copies are found by comparing every picture with every other one: 1 s for 5,000, and the square of it on."""


@dataclass(frozen=True)
class Duplicates:
    """`groups`: product ids of two or more that show the same, exact copies first. `trouble`: why there may be more."""

    groups: Sequence[Sequence[str]]
    trouble: str = ""
    count: int = 0


def find_duplicates() -> Duplicates:
    """Groups of visible products with the same picture, and with nearly the same as the published build tells.

    Without a build, and for more than MAX_PRODUCTS, only exact copies; `trouble` is then "unavailable" or "many".
    """
    count, trouble = products.visible_products().count(), ""
    pictures = products.pictures_shown(MAX_PRODUCTS, shared=count > MAX_PRODUCTS)
    parts: Mapping[str, Matrix] = {}
    least: Mapping[str, float] = {}
    if count > MAX_PRODUCTS:
        trouble = "many"
    else:
        try:
            parts, least = _looks(pictures)
        except SimilarityUnavailable:
            trouble = "unavailable"
    copies = groups_of(digest_matrix([picture.sha256 for picture in pictures]))
    joined = near_groups(parts, least, copies)
    apart = products.told_apart()
    found = []
    for group in _members(joined):
        keys = {pictures[at].key: at for at in group.tolist()}
        told = [(keys[one], keys[other]) for one, other in apart if one in keys and other in keys]
        for members in _connected(group, copies, parts, least, told) if told else [group.tolist()]:
            exact = len({pictures[at].sha256 for at in members}) == 1
            found.append((not exact, members))
    groups = [[pictures[at].product_id for at in members] for _, members in sorted(found)]
    return Duplicates(groups, trouble, count)


def _looks(pictures: Sequence[Picture]) -> tuple[dict[str, Matrix], Mapping[str, float]]:
    """The parts of looks (n, dim), zeros where there is none, and the least cosines of near copies."""
    live = live_index()
    least = live.build.calibration.near_duplicates
    rows = np.array([picture.row for picture in pictures], dtype=np.int64)
    try:
        looks, _ = live.looks_of(rows, digest_matrix([picture.sha256 for picture in pictures]))
    except VectorIndexError as error:
        raise SimilarityUnavailable(f"The index cannot answer: {error}") from error
    columns = live.build.layout.slices
    return {name: looks[:, columns[name]] for name in least}, least


def _members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The positions of each group of two or more."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [members for members in np.split(order, cuts) if len(members) > 1]


def _connected(
    group: NDArray[np.int64],
    copies: NDArray[np.int64],
    parts: Mapping[str, Matrix],
    least: Mapping[str, float],
    apart: Sequence[tuple[int, int]],
) -> list[list[int]]:
    """What is left of a group, in positions, when the pairs told apart no longer hold it together."""
    alike = copies[group, np.newaxis] == copies[group]
    if least:
        alike = alike | nearly_same({name: parts[name][group] for name in least}, least)
    place = {at: number for number, at in enumerate(group.tolist())}
    for one, other in apart:
        alike[place[one], place[other]] = alike[place[other], place[one]] = False
    left, found = set(range(len(group))), []
    while left:
        reached, new = set(), {min(left)}
        while new:
            reached |= new
            new = {int(at) for each in new for at in np.flatnonzero(alike[each])} - reached
        left -= reached
        if len(reached) > 1:
            found.append([int(group[at]) for at in sorted(reached)])
    return found


def tell_apart(some: Sequence[Product]) -> None:
    """Remember that no two of these are duplicates."""
    pairs = combinations(sorted(product.pk for product in some), 2)
    told = [DistinctPair(one_id=one, other_id=other) for one, other in pairs]
    DistinctPair.objects.bulk_create(told, ignore_conflicts=True)

"""Looks: what is compared. Pure NumPy.

A look is the concatenation of one unit vector `u_i` a part, stored as `sqrt(w_i)·u_i`, where `w` is the
default mix of the build. A query under mix `m` is `m_i/sqrt(w_i)·u_i`, so that the one inner product of a
query with a stored look is `Σ m_i·cos_i`, over one index, for every mix. A part that is missing (an
all-white picture has no colour) is zeros.

Where the parts come from, `similarity.fitting` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from django.utils.translation import gettext
from numpy.typing import NDArray

from similarity.mix import Mix, MixError, check_mix
from similarity.vectors import Matrix, unit

MAX_LOOK_DIMENSION = 384


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a look: which space it comes from, and how a vector of that space becomes it.

    `(vector - mean) @ basis`, at length 1. `mean` is (space's dimension,) and `basis` (space's dimension, part's
    dimension); each is None where there is nothing to do.
    """

    name: str
    weight: float
    dimension: int
    space: str
    mean: NDArray[np.float32] | None = None
    basis: Matrix | None = None

    def project(self, vectors: Matrix) -> Matrix:
        """(n, space's dimension) of the space → (n, dimension), lines of length 1, or of zeros where missing."""
        present = vectors.any(axis=1)
        centred = vectors if self.mean is None else vectors - self.mean
        projected = unit(centred if self.basis is None else centred @ self.basis)
        projected[~present] = 0
        return projected

    @property
    def space_dimension(self) -> int:
        """The length of the vectors it is made of."""
        return self.dimension if self.basis is None else len(self.basis)


@dataclass(frozen=True)
class Layout:
    """The parts of a build's looks, in order."""

    parts: tuple[Part, ...]

    @cached_property
    def dimension(self) -> int:
        return sum(part.dimension for part in self.parts)

    @cached_property
    def default_mix(self) -> Mix:
        return {part.name: part.weight for part in self.parts}

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Each part's columns within a look."""
        ends = np.cumsum([part.dimension for part in self.parts])
        return {
            part.name: slice(int(end) - part.dimension, int(end)) for part, end in zip(self.parts, ends, strict=True)
        }

    def compose(self, vectors: Mapping[str, Matrix]) -> Matrix:
        """Looks (n, dimension) from each space's vectors (n, space's dimension), zeros where one is missing."""
        pieces = [np.sqrt(np.float32(part.weight)) * part.project(vectors[part.space]) for part in self.parts]
        return np.ascontiguousarray(np.concatenate(pieces, axis=1), dtype=np.float32)

    def missing_parts(self, look: NDArray[np.float32]) -> tuple[str, ...]:
        """Which parts the look (dimension,) lacks."""
        if float(look @ look) > self._length_without_one:
            return ()
        return tuple(name for name, columns in self.slices.items() if not look[columns].any())

    @cached_property
    def _length_without_one(self) -> float:
        """The squared length of a look is the sum of the weights of the parts that it has; this is between that of a
        whole one and that of one that lacks its lightest part."""
        weights = [part.weight for part in self.parts]
        return sum(weights) - min(weights) / 2

    def usable_mix(self, mix: Mix | None) -> tuple[Mix, tuple[str, ...]]:
        """The part of the mix that this build can answer, and the names that it does not know.

        None is the default mix. Raises MixError where nothing is left.
        """
        if mix is None:
            return self.default_mix, ()
        check_mix(mix)
        known = {part.name: float(mix.get(part.name, 0.0)) for part in self.parts}
        unknown = tuple(name for name in mix if name not in known)
        if not any(known.values()):
            said = gettext("The index has the parts %(parts)s; the mix weighs none of them.")
            raise MixError(said % {"parts": ", ".join(known)})
        return known, unknown

    def query_weights(self, mix: Mix) -> NDArray[np.float32]:
        """What to multiply a stored look with to make it a query: (dimension,), `m_i/w_i` in part i's columns.

        The inner product of that query with a stored look is the score, `Σ m_i·cos_i / Σ |m_i|`.
        """
        return self._weights(mix) if mix != self.default_mix else self._default_weights

    @cached_property
    def _default_weights(self) -> NDArray[np.float32]:
        return self._weights(self.default_mix)

    def _weights(self, mix: Mix) -> NDArray[np.float32]:
        total = sum(abs(weight) for weight in mix.values())
        return np.concatenate(
            [np.full(part.dimension, mix[part.name] / part.weight / total, np.float32) for part in self.parts]
        )

    def contributions(self, query: NDArray[np.float32], looks: Matrix) -> dict[str, NDArray[np.float32]]:
        """What each part adds to the score of each of the looks (n, dimension): (n,) a part."""
        return {name: looks[:, columns] @ query[columns] for name, columns in self.slices.items()}

"""Growing looks: many, of the kinds that there are, as like each other as the real ones."""

from __future__ import annotations

import numpy as np
import pytest

from similarity.growing import Seeds, grow, likeness
from similarity.vectors import Matrix, unit


@pytest.fixture(scope="module")
def real() -> Matrix:
    """Looks of five kinds, each a lump of six dimensions among forty."""
    random = np.random.default_rng(5)
    lumps = [random.normal(size=40) + random.normal(size=(120, 6)) @ random.normal(size=(6, 40)) for _ in range(5)]
    return unit(np.concatenate(lumps).astype(np.float32))


@pytest.fixture(scope="module")
def seeds(real: Matrix) -> Seeds:
    return Seeds.of(real)


def test_grown_looks_are_as_like_each_other_as_real_ones(real: Matrix, seeds: Seeds) -> None:
    grown, _ = grow(seeds, len(real), copies=0.0)
    for rank, cosine in likeness(real).items():
        assert likeness(grown)[rank] == pytest.approx(cosine, abs=0.04)


def test_a_grown_look_is_of_its_parents_kind(real: Matrix, seeds: Seeds) -> None:
    grown, parents = grow(seeds, 1000)
    nearest = (grown @ real.T).argmax(axis=1)
    assert (nearest // 120 == parents // 120).mean() > 0.95


def test_looks_have_length_one_and_are_the_same_each_time(seeds: Seeds) -> None:
    grown, parents = grow(seeds, 500, seed=3)
    np.testing.assert_allclose(np.linalg.norm(grown, axis=1), 1, atol=1e-5)
    again, same = grow(seeds, 500, seed=3)
    assert (grown == again).all()
    assert (parents == same).all()
    assert (grow(seeds, 500, seed=4)[0] != grown).any()


def test_a_fifth_are_nearly_copies(seeds: Seeds) -> None:
    grown, _ = grow(seeds, 1000)
    scores = grown @ grown.T
    np.fill_diagonal(scores, -1)
    assert 0.2 < (scores.max(axis=1) > 0.998).mean() < 0.6


def test_too_few_to_grow_from_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 25"):
        Seeds.of(np.eye(5, dtype=np.float32))

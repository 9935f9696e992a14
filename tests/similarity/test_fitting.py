"""What looks are made of: learned where labels teach something, left alone where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from similarity.fitting import (
    KIND_DIMENSION,
    MAX_LOOK_DIMENSION,
    Catalogue,
    fit_looks,
    labels_sha256,
    linear_discriminants,
    principal_directions,
    shrunk_covariance,
)
from similarity.vectors import unit

WEIGHTS = {"style": 0.5, "kind": 1.0, "colour": 0.8}
N, DIMENSION, CLASSES = 600, 40, 6


def catalogue(labels: list[str] | None = None, n: int = N, dimension: int = DIMENSION) -> Catalogue:
    """Products of six types that differ in a few quiet directions, among loud ones that mean nothing."""
    rng = np.random.default_rng(0)
    kinds = np.arange(n) % CLASSES
    centres = rng.normal(size=(CLASSES, dimension)) * np.r_[np.ones(5), np.zeros(dimension - 5)]
    noise = rng.normal(size=(n, dimension)) * np.r_[np.full(5, 0.3), np.full(dimension - 5, 1.5)]
    colour = unit(rng.random((n, 12)))
    types = [f"type {kind}" for kind in kinds] if labels is None else labels
    return Catalogue(
        {"style": unit(centres[kinds] + noise), "colour": colour},
        {"product_type": types, "gender": ["Women"] * n},
        np.arange(n),
    )


def test_labels_that_teach_are_learned_from_and_it_is_said_by_how_much_it_helps() -> None:
    layout, adapter = fit_looks(catalogue(), WEIGHTS)
    assert [part.name for part in layout.parts] == ["style", "kind", "colour"]
    assert adapter.adopted
    assert adapter.labels == ("product_type", "gender")
    assert (adapter.classes, adapter.judged) == (CLASSES, N)
    assert adapter.precision is not None
    assert adapter.without is not None
    assert adapter.precision > adapter.without + 0.3
    assert layout.default_mix == WEIGHTS


def test_labels_that_mean_nothing_are_left_out_and_style_takes_their_weight() -> None:
    labels = np.random.default_rng(1).choice(["a", "b", "c"], N).tolist()
    layout, adapter = fit_looks(catalogue(labels), WEIGHTS)
    assert [part.name for part in layout.parts] == ["style", "colour"]
    assert not adapter.adopted
    assert "not find more" in adapter.reason
    assert layout.default_mix == {"style": 1.5, "colour": 0.8}


@pytest.mark.parametrize(
    "labels",
    [
        [""] * N,
        ["only one"] * N,
        [f"nobody else {at}" for at in range(N)],
        [*(["few"] * 8), *(["others"] * 8), *([""] * (N - 16))],
    ],
    ids=["none", "one class", "classes of one member", "hardly any"],
)
def test_labels_that_cannot_teach_are_no_trouble(labels: list[str]) -> None:
    layout, adapter = fit_looks(catalogue(labels), WEIGHTS)
    assert not adapter.adopted
    assert adapter.precision is None
    assert layout.default_mix == {"style": 1.5, "colour": 0.8}


def test_missing_labels_and_classes_of_one_member_do_not_stop_the_others_from_teaching() -> None:
    labels = [f"type {at % CLASSES}" for at in range(N)]
    labels[:100] = [""] * 100
    labels[100:110] = [f"alone {at}" for at in range(10)]
    assert fit_looks(catalogue(labels), WEIGHTS)[1].adopted


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_a_catalogue_of_hardly_anything_has_looks_too(n: int) -> None:
    small = catalogue(n=n, dimension=500)
    layout, adapter = fit_looks(small, WEIGHTS)
    assert not adapter.adopted
    looks = layout.compose(small.vectors)
    assert looks.shape == (n, layout.dimension)
    assert (np.linalg.norm(looks, axis=1) > 0).all()


def test_vectors_of_zeros_with_good_labels_are_no_trouble() -> None:
    blind = catalogue()
    blind = replace(blind, vectors={**blind.vectors, "style": np.zeros_like(blind.vectors["style"])})
    layout, adapter = fit_looks(blind, WEIGHTS)
    assert not adapter.adopted
    assert np.isfinite(layout.compose(blind.vectors)).all()


def test_the_whole_look_stays_within_its_dimensions() -> None:
    large = catalogue(n=700, dimension=900)
    layout, _ = fit_looks(large, WEIGHTS)
    assert layout.dimension <= MAX_LOOK_DIMENSION
    assert all(part.dimension <= KIND_DIMENSION for part in layout.parts if part.name == "kind")


def test_the_same_catalogue_gives_the_same_looks() -> None:
    first, second = (fit_looks(catalogue(), WEIGHTS)[0].compose(catalogue().vectors) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_halves_keep_products_with_the_same_picture_together() -> None:
    twins = Catalogue({}, {}, np.arange(100) // 2)
    for seed in range(3):
        first, second = twins.halves(seed)
        assert sorted([*first, *second]) == list(range(100))
        assert not set(twins.groups[first]) & set(twins.groups[second])


def test_discriminants_look_where_classes_differ_and_not_where_they_spread() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(200) % 2
    vectors = np.stack([rng.normal(size=200) * 5, codes + rng.normal(size=200) * 0.1], axis=1)
    centre, directions = linear_discriminants(vectors, codes, 5)
    assert directions.shape == (2, 1)
    assert abs(directions[1, 0]) > 20 * abs(directions[0, 0])
    np.testing.assert_allclose(centre, vectors.mean(axis=0))


def test_a_covariance_of_few_is_drawn_towards_a_sphere() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([5.0, 1.0, 0.2])
    few, many = (shrunk_covariance(rng.normal(size=(n, 3)) * spread, n) for n in (4, 20_000))
    np.testing.assert_allclose(np.diag(many), spread**2, rtol=0.1, atol=0.2)
    assert np.linalg.cond(few) < np.linalg.cond(many)


def test_principal_directions_are_a_whole_basis_even_of_two_vectors() -> None:
    principal = principal_directions(np.eye(2, 20, dtype=np.float32))
    assert principal is not None
    np.testing.assert_allclose(principal.directions.T @ principal.directions, np.eye(20), atol=1e-9)
    assert principal_directions(np.zeros((3, 20), dtype=np.float32)) is None


def test_labels_have_a_digest_that_tells_any_change() -> None:
    table = {"colour": ["Red", ""], "gender": ["Men", "Women"]}
    assert labels_sha256(table) == labels_sha256(dict(reversed(table.items())))
    assert labels_sha256(table) != labels_sha256({**table, "colour": ["", "Red"]})

"""What a build finds out about itself."""

from __future__ import annotations

import numpy as np
import pytest

from similarity import modes
from similarity.calibration import (
    SHOWN,
    Calibration,
    MixFacts,
    calibrate,
    least_alike,
    near_groups,
)
from similarity.indexes.exact import ExactIndex
from similarity.indexes.faiss import FaissIndex
from similarity.looks import Layout, Part
from similarity.vectors import Matrix, unit

LAYOUT = Layout((Part("style", 1.0, 16, "style"), Part("colour", 0.5, 4, "colour")))


def some_looks(n: int, seed: int = 0) -> Matrix:
    random = np.random.default_rng(seed)
    vectors = {name: unit(random.normal(size=(n, size))) for name, size in (("style", 16), ("colour", 4))}
    return LAYOUT.compose(vectors)


def test_the_cutoff_keeps_nearly_every_twelfth_match() -> None:
    looks = some_looks(400)
    (default, *_) = calibrate(np.arange(400), LAYOUT, ExactIndex.build(looks), {}).mixes
    assert default.cutoff is not None
    scores = np.sort((looks * LAYOUT.query_weights(LAYOUT.default_mix)) @ looks.T, axis=1)[:, ::-1]
    kept = (scores[:, SHOWN] >= default.cutoff).mean()  # itself is the first
    assert 0.95 <= kept < 1


def test_copies_of_a_picture_do_not_raise_the_cutoff() -> None:
    looks = some_looks(200)
    alone = calibrate(np.arange(200), LAYOUT, ExactIndex.build(looks), {}).mixes[0].cutoff
    copied = np.repeat(looks, 15, axis=0)
    together = calibrate(np.arange(200).repeat(15), LAYOUT, ExactIndex.build(copied), {}).mixes[0].cutoff
    assert alone is not None
    assert together is not None
    assert together > alone  # twelve of the fifteen copies of one neighbour fill the list …
    assert together < 0.9  # … but one's own copies are not in it


def test_a_small_catalogue_has_no_cutoff_and_an_empty_one_no_mixes() -> None:
    looks = some_looks(30)
    assert {facts.cutoff for facts in calibrate(np.arange(30), LAYOUT, ExactIndex.build(looks), {}).mixes} == {None}
    assert calibrate(np.arange(0), LAYOUT, ExactIndex.build(looks[:0]), {}).mixes == ()


def test_every_mix_that_pages_offer_is_measured() -> None:
    looks = some_looks(120)
    calibration = calibrate(np.arange(120), LAYOUT, ExactIndex.build(looks), {})
    for mode in modes.MODES:
        for balance in modes.BALANCES:
            assert calibration.cutoff(modes.mix_of(LAYOUT.default_mix, mode, balance)) is not None
    assert calibration.cutoff({"style": 2.0, "colour": 1.0}) == calibration.cutoff(LAYOUT.default_mix)
    assert calibration.cutoff({"style": 1.0, "colour": -3.0}) is None


def test_an_approximate_index_is_measured_and_passed_over_where_it_loses_too_much() -> None:
    looks = some_looks(2000)
    index = FaissIndex.build(looks, "IVF32(IVF8,Flat),Flat")  # lists that are found by lists, of which one only is read
    calibration = calibrate(np.arange(2000), LAYOUT, index, {})
    assert all(0 < facts.recall < 0.99 for facts in calibration.mixes)
    assert calibration.way_of(LAYOUT.default_mix)[0]
    query = looks[7] * LAYOUT.query_weights(LAYOUT.default_mix)
    found, scores = index.search_exactly(query, 10)
    oracle, wanted = ExactIndex.build(looks).search(query[np.newaxis], 10)
    assert found.tolist() == oracle.tolist()
    assert scores == pytest.approx(wanted, abs=1e-5)
    among = np.arange(100, 200)
    assert index.search_exactly(query, 3, among)[0].tolist() == (
        ExactIndex.build(looks).search(query[np.newaxis], 3, among)[0].tolist()
    )


def test_exactness_is_judged_where_the_mix_was_measured_nearest() -> None:
    calibration = Calibration(
        {},
        [
            MixFacts({"style": 1.0, "colour": 0.0}, None, 1.0, 0.4),
            MixFacts({"style": 0.0, "colour": 1.0}, None, 0.6, 0.7),
        ],
    )
    assert calibration.way_of({"style": 1.0, "colour": 0.3}) == (False, 0.4)
    assert calibration.way_of({"style": 0.2, "colour": 1.0}) == (True, 0.7)
    assert Calibration({}, ()).way_of({"style": 1.0}) == (False, None)


def test_it_is_kept_as_json() -> None:
    calibration = Calibration({"style": 0.96}, [MixFacts({"style": 1.0}, 0.5, 1.0)])
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert Calibration.from_json({}) == Calibration({}, [])


def test_the_least_that_pictures_remain_like_themselves() -> None:
    originals = np.array([[1, 0], [0, 1], [0, 0]], dtype=np.float32)
    echoes = np.array([[1, 0], [0.6, 0.8], [1, 0]], dtype=np.float32)
    assert least_alike(originals, echoes) == pytest.approx(0.8, abs=0.01)
    assert least_alike(originals[:0], echoes[:0]) is None


def test_near_duplicates_become_one_group_with_the_copies_of_each() -> None:
    vectors = {
        "style": np.array([[1, 0], [1, 0.001], [0, 1], [0, 1], [1, 0.002]], dtype=np.float32),
        "colour": np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32),
    }
    groups = np.array([0, 1, 2, 3, 0])
    joined = near_groups(vectors, {"style": 0.999, "colour": 0.999}, groups)
    assert joined[0] == joined[1] == joined[4]
    assert len({joined[0], joined[2], joined[3]}) == 3
    assert near_groups(vectors, {}, groups).tolist() == [0, 1, 2, 3, 0]

"""Figures of rankings, on neighbours that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from similarity.ranking import label_codes, leave_one_out, precision_curve, scores_of

LOOKS = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)


def test_nobody_is_their_own_neighbour() -> None:
    neighbours = leave_one_out(LOOKS, LOOKS, np.arange(4), 2)
    assert neighbours[:, 0].tolist() == [1, 0, 3, 2]
    assert all(at not in line for at, line in enumerate(neighbours))


def test_products_with_the_same_picture_are_no_neighbours() -> None:
    neighbours = leave_one_out(LOOKS, LOOKS, np.array([0, 0, 1, 2]), 3)
    assert neighbours.tolist() == [[3, 2, -1], [3, 2, -1], [3, 1, 0], [2, 1, 0]]


def test_precision_counts_neighbours_that_bear_the_label() -> None:
    scores = scores_of(np.array([[1, 2], [0, 2], [1, 0]]), np.array([0, 0, 1]), np.arange(3))
    assert scores.p_at_1 == pytest.approx(2 / 3, abs=1e-4)
    assert scores.p_at_k == pytest.approx((0.5 + 0.5 + 0) / 3, abs=1e-4)


def test_queries_without_label_are_left_out_and_counted() -> None:
    scores = scores_of(np.array([[1], [0], [0]]), np.array([0, 0, -1]), np.arange(3))
    assert (scores.queries, scores.left_out, scores.p_at_1) == (2, 1, 1.0)


def test_fewer_neighbours_than_k_are_judged_by_how_many_there_are() -> None:
    assert scores_of(np.array([[1, -1], [0, -1]]), np.array([0, 0]), np.arange(2)).p_at_k == 1.0


def test_without_labels_there_is_no_figure() -> None:
    scores = scores_of(np.array([[1], [0]]), np.array([-1, -1]), np.arange(2))
    assert (scores.p_at_1, scores.p_at_k, scores.ndcg_at_k, scores.map_at_k, scores.left_out) == (*[None] * 4, 2)


def test_a_later_rank_weighs_less() -> None:
    codes, neighbours = np.array([0, 1, 0, 1]), np.array([[1, 2], [3, 0], [0, 1], [0, 1]])
    # Ranks of the one right neighbour: 2, 1, 1, 2; there is one to find for each.
    scores = scores_of(neighbours, codes, np.arange(4))
    assert scores.ndcg_at_k == pytest.approx((2 * 1 + 2 / np.log2(3)) / 4, abs=1e-4)
    assert scores.map_at_k == pytest.approx((2 * 1 + 2 * 0.5) / 4, abs=1e-4)


def test_a_perfect_ranking_scores_one_though_few_are_right() -> None:
    neighbours = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1]])
    scores = scores_of(neighbours, np.array([0, 0, 1, 1]), np.arange(4))
    assert scores.p_at_k == pytest.approx(1 / 3, abs=1e-4)
    assert (scores.ndcg_at_k, scores.map_at_k) == (1.0, 1.0)


def test_copies_of_the_query_are_nothing_that_could_be_found() -> None:
    codes, same = np.array([0, 0, 0]), np.array([0, 0, 1])
    scores = scores_of(np.array([[2], [2], [0]]), codes, same)
    assert (scores.ndcg_at_k, scores.map_at_k) == (1.0, 1.0)


def test_combined_labels_need_all_of_them() -> None:
    labels = {"a": ["x", "x", "x"], "b": ["y", "", "y"]}
    assert label_codes(labels, ("a", "b")).tolist() == [0, -1, 0]


def test_only_those_asked_for_are_ranked_among_all() -> None:
    everybody = leave_one_out(LOOKS, LOOKS, np.arange(4), 2)
    asked = np.array([3, 1])
    assert leave_one_out(LOOKS, LOOKS, np.arange(4), 2, asked).tolist() == everybody[asked].tolist()
    codes = np.array([0, 0, 1, 1])
    some = scores_of(everybody[asked], codes, np.arange(4), asked)
    assert (some.p_at_1, some.queries, some.left_out) == (1.0, 2, 0)


@pytest.mark.parametrize("k", [1, 3, 10, 40, 60])
def test_neighbours_are_those_of_a_stable_sort_ties_included(k: int) -> None:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 3, (50, 3)).astype(np.float32)  # many a tie
    same = rng.integers(0, 30, 50)
    scores = looks @ looks.T
    scores[same[:, np.newaxis] == same] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    wanted = np.where(np.take_along_axis(scores, order, axis=1) > -np.inf, order, -1)
    assert leave_one_out(looks, looks, same, k)[:, :50].tolist() == wanted.tolist()


def test_the_curve_ends_at_precision_at_k() -> None:
    neighbours, codes = np.array([[1, 2], [0, 2], [1, -1]]), np.array([0, 0, 1])
    assert precision_curve(neighbours, codes) == pytest.approx([2 / 3, 1 / 3], abs=1e-4)
    assert scores_of(neighbours, codes, np.arange(3)).p_at_k == pytest.approx(1 / 3, abs=1e-4)
    assert precision_curve(neighbours, np.array([-1, -1, -1])) is None

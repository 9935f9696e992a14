"""Networks made ready for bfloat16: errors of rounding that would be the same all over a picture cancel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from openvino._offline_transformations import apply_moc_transformations

from similarity.runtimes import bfloat16
from similarity.runtimes.openvino import OpenVinoSession, _converted
from similarity.vectors import unit
from tests.similarity.test_runtimes import EMBEDDER, PREPARED, converted

__all__ = ["converted"]

WEIGHTS = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)


def test_rounding_is_that_of_torch() -> None:
    expected = torch.from_numpy(WEIGHTS).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(bfloat16.rounded(WEIGHTS), expected)


def test_errors_of_equal_weights_cancel() -> None:
    filters = np.full((1, 4), 1 + 1 / 320, dtype=np.float32)  # between 1 and 1 + 1/128, nearer to 1
    assert np.abs(bfloat16.rounded(filters) - filters).sum() > 0.012
    balanced = bfloat16.balanced(filters)
    assert sorted(balanced[0].tolist()) == [1, 1, 1 + 1 / 128, 1 + 1 / 128]
    assert abs((balanced - filters).sum()) < 0.004


def test_every_filter_sums_better_and_no_weight_moves_past_its_neighbours() -> None:
    nearest, balanced = bfloat16.rounded(WEIGHTS), bfloat16.balanced(WEIGHTS)
    np.testing.assert_array_equal(bfloat16.rounded(balanced), balanced)
    assert (np.abs(balanced - WEIGHTS) < 2.0**-7 * np.abs(WEIGHTS)).all()
    before, after = (np.abs((values - WEIGHTS).astype(np.float64).sum(axis=1)) for values in (nearest, balanced))
    assert (after <= before).all()
    assert np.median(after) < np.median(before) / 5


def test_weights_made_ready_answer_better_than_weights_rounded_one_by_one(
    converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _converted(EMBEDDER.network(), PREPARED[:1], converted)

    def answers(network: ov.Model) -> np.ndarray:  # in float32: what is measured is the weights alone
        return unit(OpenVinoSession(network, "float32", PREPARED[:1]).infer(PREPARED))

    exact, ready = answers(model), answers(bfloat16.made_ready(model))
    monkeypatch.setattr(bfloat16, "balanced", bfloat16.rounded)
    one_by_one = answers(bfloat16.made_ready(model))
    worst, worst_one_by_one = (1 - (exact * each).sum(axis=1).min() for each in (ready, one_by_one))
    assert worst < worst_one_by_one / 3


def test_whole_pixels_change_nothing_but_the_colour_of_the_padding(tmp_path: Path) -> None:
    from similarity.embedders.efficientnet import EfficientNetEmbedder

    embedder = EfficientNetEmbedder(normalisation="imagenet", flip=False)
    model = _converted(embedder.network(), PREPARED[:1], tmp_path)
    whole = model.clone()
    apply_moc_transformations(whole, cf=False)
    bfloat16._take_whole_pixels(whole)
    operations = [node.get_type_name() for node in whole.get_ordered_ops()]
    assert "Multiply" not in operations[: operations.index("Convolution")]
    a, b = (unit(OpenVinoSession(one, "float32", PREPARED[:1]).infer(PREPARED)) for one in (model, whole))
    assert (a * b).sum(axis=1).min() > 0.9999

"""Which index a build gets: by size and setting, measured, and made to find what there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.builds import current_manifest
from similarity.calibration import LEAST_RECALL, exact_tenth, recall_of
from similarity.indexes.base import FLAT
from similarity.indexes.faiss import FIRST_EFFORT, FIRST_PROBES, GRAPH
from similarity.looks import Layout, Part
from similarity.services import similar_to
from similarity.serving import get_index
from similarity.tuning import available_bytes, tuned_index
from similarity.vectors import Matrix, unit


def use_factory(settings: Any, factory: str) -> None:
    settings.SIMILARITY = {**settings.SIMILARITY, "INDEX": {**settings.SIMILARITY["INDEX"], "FACTORY": factory}}


def scattered(dimension: int) -> tuple[Matrix, Layout]:
    """Looks that lie nowhere in particular: the hardest there are for a graph."""
    looks = unit(np.random.default_rng(1).normal(size=(4000, dimension)).astype(np.float32))
    return looks, Layout((Part("style", 1.0, dimension, "style"),))


def test_few_looks_get_an_exact_index(settings: Any) -> None:
    use_factory(settings, "auto")
    index, tuning = tuned_index(*scattered(16))
    assert index.exact
    assert (tuning.factory, tuning.effort, tuning.recall) == (FLAT, None, 1.0)


def test_a_graph_that_finds_too_little_searches_harder(settings: Any) -> None:
    use_factory(settings, "HNSW4,Flat")  # four links are few
    looks, layout = scattered(16)
    index, tuning = tuned_index(looks, layout)
    assert tuning.effort is not None
    assert tuning.effort > FIRST_EFFORT
    assert index.effort == tuning.effort
    assert tuning.recall >= LEAST_RECALL
    others = unit(np.random.default_rng(2).normal(size=(200, 16)).astype(np.float32))
    assert recall_of(index, others, exact_tenth(others, index)) > LEAST_RECALL - 0.02


def test_a_graph_that_cannot_find_enough_gives_way_to_an_exact_index(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use_factory(settings, "HNSW2,Flat")
    index, tuning = tuned_index(*scattered(48))
    assert index.exact
    assert (tuning.chosen, tuning.factory) == ("HNSW2,Flat", FLAT)
    assert "an exact one takes its place" in caplog.text


def test_a_build_over_a_graph_answers_as_an_exact_one_and_says_what_it_is(
    reds_and_blues: dict[str, Product], settings: Any
) -> None:
    build_index()
    exact = similar_to(reds_and_blues["red"]).to_json()
    use_factory(settings, GRAPH)
    report = build_index()
    assert report.built
    assert (report.kind["factory"], report.kind["recall"]) == (GRAPH, 1.0)
    assert current_manifest().fit["index"] == report.kind
    assert not get_index().build.index.exact
    again = similar_to(reds_and_blues["red"]).to_json()
    assert [match["product_id"] for match in again["matches"]] == [match["product_id"] for match in exact["matches"]]
    assert not build_index().changed


def test_where_the_kind_is_chosen_by_size_another_one_is_made_anew(
    reds_and_blues: dict[str, Product], settings: Any
) -> None:
    use_factory(settings, GRAPH)
    build_index()
    use_factory(settings, "auto")
    report = build_index()
    assert report.built
    assert report.kind["factory"] == FLAT


def test_lists_that_find_too_little_search_harder_and_those_that_cannot_find_enough_give_way(settings: Any) -> None:
    use_factory(settings, "IVF64,RaBitQfs")
    index, tuning = tuned_index(*scattered(24))
    assert tuning.effort is not None
    assert tuning.effort > FIRST_PROBES
    assert index.effort == tuning.effort
    assert tuning.recall >= LEAST_RECALL
    use_factory(settings, "IVF64(IVF8,Flat),Flat")  # lists that are found by lists, of which one only is read
    index, tuning = tuned_index(*scattered(24))
    assert index.exact
    assert (tuning.chosen, tuning.factory) == ("IVF64(IVF8,Flat),Flat", FLAT)


def test_of_too_few_looks_to_train_on_an_exact_index_is_made_and_the_log_says_so(
    reds_and_blues: dict[str, Product], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use_factory(settings, "IVF64,Flat")
    report = build_index()
    assert (report.kind["chosen"], report.kind["factory"]) == ("IVF64,Flat", FLAT)
    assert "'IVF64,Flat' cannot be trained on 4 looks." in caplog.text
    assert [match["product_id"] for match in similar_to(reds_and_blues["red"]).to_json()["matches"]]
    assert not build_index().changed


def test_a_kind_that_is_none_is_named_with_its_setting(reds_and_blues: dict[str, Product], settings: Any) -> None:
    use_factory(settings, "HNSV32")
    with pytest.raises(ImproperlyConfigured, match=r"VITRINE_INDEX.*'HNSV32' is no factory string"):
        build_index()
    with pytest.raises(CommandError, match="VITRINE_INDEX"):
        call_command("build_index")


def test_the_free_memory_is_known_or_not_known() -> None:
    free = available_bytes()
    assert free is None or 2**20 < free < 2**50

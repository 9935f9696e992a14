"""The judge: what is judged was never fitted on, and every figure can be computed again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.evaluation import EvaluationError, evaluate_similarity
from tests.similarity.conftest import AddProduct


def test_the_command_prints_the_promised_json(
    reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
) -> None:
    Product.objects.filter(product_id__in=["red", "rose", "plum"]).update(product_type="Shirts", gender="Women")
    build_index()
    call_command("evaluate_similarity", "--json", "--whole", "-k", "2", "--mix", "style:1")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["products"], printed["k"]) == (4, 2)
    # red → rose, plum; rose → red, plum; plum → rose, red: every neighbour is a shirt.
    figures = printed["labels"]["product_type"]
    assert (figures["p_at_1"], figures["p_at_k"], figures["queries"], figures["left_out"]) == (1.0, 1.0, 3, 1)
    assert printed["baseline"]["labels"]["product_type"]["p_at_k"] == 1.0
    assert set(printed["labels"]) == {
        *("gender", "category", "sub_category", "product_type", "colour", "usage"),
        *("product_type+gender", "product_type+gender+colour"),
    }


def test_a_catalogue_of_nothing_is_judged_without_a_crash(add_product: AddProduct) -> None:
    add_product("bare")
    build_index()
    with pytest.raises(EvaluationError, match="nothing to judge"):
        evaluate_similarity()


@pytest.fixture
def shop(add_product: AddProduct) -> dict[str, Product]:
    """Sixty products: red shirts and blue shoes, a few with the same picture."""
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 60, (60, 3)) + np.resize([[180, 0, 0], [0, 0, 180]], (60, 3))
    shades[10], shades[20] = shades[8], shades[18]
    shop = {}
    for at, shade in enumerate(shades.tolist()):
        kind = "Shirts" if at % 2 == 0 else "Shoes"
        shop[f"p{at}"] = add_product(f"p{at}", tuple(shade), product_type=kind, gender="Women")
    build_index()
    return shop


def test_what_is_judged_was_not_fitted_on(shop: dict[str, Product]) -> None:
    evaluation = evaluate_similarity(3)
    assert len(evaluation.folds) == 5
    digests = dict(Product.objects.values_list("product_id", "image_sha256"))
    for fold in evaluation.folds:
        assert fold.fitted_on + len(fold.judged) == len(shop)
        others = {digests[each] for each in shop if each not in fold.judged}
        assert not others & {digests[each] for each in fold.judged}
    assert evaluation.labels["product_type"].p_at_k == 1.0
    assert evaluation.spread("product_type") == 0.0


def test_labels_of_the_judged_products_change_no_ranking(shop: dict[str, Product]) -> None:
    ids = sorted(shop)
    fit_ids, test_ids = ids[:40], ids[40:]
    before = evaluate_similarity(3, fit_ids=fit_ids, test_ids=test_ids)
    Product.objects.filter(product_id__in=test_ids).update(product_type="Hats", colour="Green")
    after = evaluate_similarity(3, fit_ids=fit_ids, test_ids=test_ids)
    assert list(before.matches()) == list(after.matches())


def test_a_product_whose_picture_was_fitted_on_is_not_judged(shop: dict[str, Product]) -> None:
    (fold,) = evaluate_similarity(3, fit_ids=["p8", "p11", "p12"], test_ids=["p10", "p14", "p15", "p16"]).folds
    assert sorted(fold.judged) == ["p14", "p15", "p16"]


def test_anybody_can_compute_the_figures_again(
    shop: dict[str, Product], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("evaluate_similarity", "--json", "-k", "3", "--matches", str(tmp_path / "matches.csv"))
    printed = json.loads(capsys.readouterr().out)
    types = dict(Product.objects.values_list("product_id", "product_type"))
    with (tmp_path / "matches.csv").open() as file:
        lines = list(csv.DictReader(file))
    for ranking, labels in (("mix", printed["labels"]), ("plain", printed["baseline"]["labels"])):
        right = [
            [types[line["query"]] == types[line["match"]] for line in lines if (line["fold"], line["ranking"]) == which]
            for which in ((str(number), ranking) for number in range(1, 6))
        ]
        assert labels["product_type"]["p_at_k"] == pytest.approx(np.mean([np.mean(fold) for fold in right]), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fit-ids", "FILE"], "belong together"),
        (["--whole", "--fit-ids", "FILE", "--test-ids", "FILE"], "--whole"),
        (["--fit-ids", "FILE", "--test-ids", "/nowhere"], "/nowhere cannot be read"),
        (["--fit-ids", "FILE", "--test-ids", "FILE"], "no visible product nobody"),
        (["--matches", "/nowhere/matches.csv"], "--matches /nowhere/matches.csv"),
    ],
)
def test_what_cannot_be_judged_is_said_in_a_sentence(
    reds_and_blues: dict[str, Product], tmp_path: Path, arguments: list[str], says: str
) -> None:
    build_index()
    (tmp_path / "ids.txt").write_text("red\nnobody\n")
    with pytest.raises(CommandError, match=says):
        call_command(
            "evaluate_similarity", *(str(tmp_path / "ids.txt") if each == "FILE" else each for each in arguments)
        )

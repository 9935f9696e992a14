"""The judge: what is judged was never fitted on, and every figure can be computed again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.builds import current_manifest
from similarity.evaluation import EvaluationError, compare_models, evaluate_similarity
from similarity.management.commands import evaluate_similarity as command
from tests.similarity.conftest import AddProduct
from tests.similarity.random_models import save_clip, save_dinov2


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
        (["--html", "/nowhere/page.html"], "--html /nowhere/page.html: No such file"),
        (["--models", "toy"], "two models or more"),
        (["--models", "toy,"], "two models or more"),
        (["--models", "toy,toy"], "each once"),
        (["--models", "toy,colour"], "colour is a part of every look"),
        (["--models", "toy,/nowhere"], "no folder /nowhere"),
        (["--models", "toy,other", "--whole"], "--whole is for one model"),
        (["--models", "toy,other", "--matches", "FILE"], "--matches is for one model"),
        (["--models", "toy,other", "--per-class"], "--per-class is for one model"),
        (["--models", "toy,efficientnet-lite0"], "build_index --model efficientnet-lite0"),
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


def test_figures_by_class_are_counted_by_hand(add_product: AddProduct, capsys: pytest.CaptureFixture[str]) -> None:
    # The nearest in angle: a → b, b → a, c → b, d → c. All but c find their own type.
    for name, shade, kind in (("a", 10, "Shirts"), ("b", 20, "Shirts"), ("c", 80, "Shoes"), ("d", 190, "Shoes")):
        add_product(name, (255, shade, 0), product_type=kind)
    add_product("e", (0, 0, 255))
    build_index()
    call_command("evaluate_similarity", "--json", "--whole", "-k", "1", "--mix", "style:1")
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert list(classes) == ["gender", "category", "sub_category", "product_type", "colour", "usage"]
    assert classes["gender"] == {}
    types = classes["product_type"]
    assert {value: scores["queries"] for value, scores in types.items()} == {"Shirts": 2, "Shoes": 2}
    assert types["Shirts"] == {"p_at_k": 1.0, "plain": 1.0, "queries": 2}
    assert types["Shoes"]["plain"] == 0.5


def test_per_class_shows_common_values_and_the_worst_of_the_others(
    shop: dict[str, Product], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Product.objects.filter(product_id__in=[f"p{at}" for at in range(1, 20, 2)]).update(product_type="Hats")
    for name, value in (("COMMON", 1), ("WORST", 1), ("LEAST_QUERIES", 1)):
        monkeypatch.setattr(command, name, value)
    call_command("evaluate_similarity", "-k", "3")
    assert "Shirts" not in capsys.readouterr().out
    call_command("evaluate_similarity", "-k", "3", "--per-class")
    printed = capsys.readouterr().out
    assert "Shirts" in printed
    assert "Hats" in printed
    assert "Shoes" not in printed
    assert "and 1 more (--json, --html)" in printed


def test_classes_together_are_the_label(shop: dict[str, Product]) -> None:
    Product.objects.filter(product_id__in=["p0", "p3", "p7"]).update(product_type="Hats")
    evaluation = evaluate_similarity(3)
    scores = evaluation.classes["product_type"].values()
    assert sum(each.queries for each in scores) == evaluation.labels["product_type"].queries
    mean = sum(each.p_at_k * each.queries for each in scores) / sum(each.queries for each in scores)
    assert mean == pytest.approx(evaluation.labels["product_type"].p_at_k, abs=0.02)  # halves differ in size


def test_models_are_compared_on_the_same_halves_though_only_one_is_published(
    shop: dict[str, Product], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DINOv2 against the vision tower of CLIP, both of random weights."""
    dinov2 = str(save_dinov2(tmp_path / "dinov2", hidden_size=24, num_attention_heads=2, num_hidden_layers=1))
    clip = str(save_clip(tmp_path / "clip"))
    for model in (dinov2, clip, "toy"):
        build_index(model)
    capsys.readouterr()
    call_command("evaluate_similarity", "--models", f"{dinov2},{clip},toy", "-k", "3", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert (list(printed["models"]), printed["products"], printed["k"]) == ([dinov2, clip, "toy"], 60, 3)
    assert current_manifest().model == "toy"
    alone = evaluate_similarity(3).to_json()
    assert printed["models"]["toy"] == {"labels": alone["labels"], "baseline": alone["baseline"]}
    judged = [
        [fold.judged for fold in evaluation.folds] for evaluation in compare_models([dinov2, clip]).evaluations.values()
    ]
    assert judged[0] == judged[1]
    call_command("evaluate_similarity", "--models", f"{dinov2},toy", "-k", "3")
    assert "60 products that all of them have embedded" in capsys.readouterr().out


@pytest.fixture
def two_models(settings: Any) -> None:
    """A second model that sees what the toy sees."""
    embedders = {**settings.SIMILARITY["EMBEDDERS"]}
    embedders["other"] = embedders["toy"]
    settings.SIMILARITY = {**settings.SIMILARITY, "EMBEDDERS": embedders}


def test_a_model_that_lacks_products_is_named_with_the_command(
    two_models: None, shop: dict[str, Product], add_product: AddProduct
) -> None:
    with pytest.raises(EvaluationError, match=r"other has embedded no product yet.*build_index --model other"):
        compare_models(["toy", "other"])
    build_index("other")
    add_product("late", (9, 9, 9))
    build_index("toy")
    with pytest.raises(EvaluationError, match=r"other lacks the embeddings of 1 of 61 products.*--model other"):
        compare_models(["toy", "other"])
    # What is known to be unreadable will never be embedded; it is left out.
    Product.objects.filter(product_id="late").update(image_error="It cannot be read.")
    assert compare_models(["toy", "other"]).products == 60


def test_named_products_are_fitted_on_and_judged_for_every_model(two_models: None, shop: dict[str, Product]) -> None:
    build_index("other")
    found = compare_models(["toy", "other"], 3, fit_ids=["p0", "p1", "p2"], test_ids=["p4", "p5", "p6"])
    for evaluation in found.evaluations.values():
        (fold,) = evaluation.folds
        assert sorted(fold.judged) == ["p4", "p5", "p6"]

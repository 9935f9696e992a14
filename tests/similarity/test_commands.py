"""`similar` and `export_index`, as they are run."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.services import similar_to
from tests.similarity.conftest import png


def test_similar_prints_the_json_of_the_api(
    reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str], client: object
) -> None:
    build_index()
    call_command("similar", "red", "-k", "2", "--mix", "style:1", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["product_id"] == "red"
    assert [match["product_id"] for match in printed["matches"]] == ["rose", "plum"]
    assert set(printed["matches"][0]) >= {"product_id", "score", "parts", "title"}
    assert set(printed["matches"][0]["parts"]) == {"style", "colour"}


def test_similar_asks_with_a_picture(
    reds_and_blues: dict[str, Product], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_index()
    (tmp_path / "query.png").write_bytes(png((0, 5, 190)))
    call_command("similar", "--image", str(tmp_path / "query.png"), "-k", "1", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["product_id"] is None
    assert printed["matches"][0]["product_id"] == "blue"


def test_similar_is_readable_without_json(
    reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
) -> None:
    build_index()
    call_command("similar", "red")
    first = capsys.readouterr().out.splitlines()[0]
    assert "rose" in first
    assert "Product rose" in first


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of the two"),
        (["red", "--image", "x.png"], "one of the two"),
        (["nobody"], "no product with the id nobody"),
        (["--image", "nowhere.png"], "nowhere.png: "),
        (["red", "--mix", "style"], "part:weight"),
        (["red", "--mix", "kind:1"], "none of them"),
        (["red", "-k", "0"], "from 1 to 100"),
        (["red", "-k", "1000000000"], "from 1 to 100"),
    ],
)
def test_similar_says_what_is_wrong(reds_and_blues: dict[str, Product], arguments: list[str], says: str) -> None:
    build_index()
    with pytest.raises(CommandError, match=says):
        call_command("similar", *arguments)


def test_without_an_index_the_repair_is_named(reds_and_blues: dict[str, Product]) -> None:
    for command in (["similar", "red"], ["evaluate_similarity"], ["export_index", "/nowhere"]):
        with pytest.raises(CommandError, match=r"manage.py build_index"):
            call_command(*command)


def test_plain_faiss_reads_the_exported_index_and_finds_the_same(
    reds_and_blues: dict[str, Product], tmp_path: Path
) -> None:
    Product.objects.filter(product_id="rose").update(image_url="https://shop.example/rose.jpg")
    Product.objects.filter(product_id="plum").update(hidden=True)
    build_index()
    call_command("export_index", str(tmp_path / "out"))
    index = faiss.read_index(str(tmp_path / "out" / "vector.index"))
    product_ids = json.loads((tmp_path / "out" / "product_ids.json").read_text())
    image_ids = json.loads((tmp_path / "out" / "image_ids.json").read_text())
    assert product_ids == ["red", "rose", "blue"]
    assert image_ids[1] == "https://shop.example/rose.jpg"
    assert image_ids[0] == reds_and_blues["red"].image.url
    scores, positions = index.search(index.reconstruct(0)[np.newaxis], 3)
    ours = similar_to(reds_and_blues["red"]).matches
    assert [product_ids[at] for at in positions[0]] == ["red", *(match.product.product_id for match in ours)]
    np.testing.assert_allclose(scores[0], [1, *(match.score or 0.0 for match in ours)], atol=1e-5)

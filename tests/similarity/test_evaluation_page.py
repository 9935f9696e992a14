"""The page of an evaluation: the same numbers as in the JSON, and nothing that is not within."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command

from catalog.models import Product
from similarity.building import build_index
from similarity.evaluation import evaluate_similarity
from similarity.evaluation_page import Line, confusion, evaluation_page, extremes, plot
from tests.similarity.conftest import AddProduct


class Tables(HTMLParser):
    """The lines of every table, by the table's class: a list of cells each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[tuple[str, list[str]]] = []
        self.addresses: list[str] = []
        self._table = ""
        self._cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value for name in ("src", "href", "srcset") if (value := given.get(name))]
        if tag == "table":
            self._table = f"{given.get('class') or ''} {given.get('data-label') or ''}".strip()
        elif tag == "tr":
            self.lines.append((self._table, []))
        elif tag in ("td", "th"):
            self._cell = True
            self.lines[-1][1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.lines[-1][1][-1] += data.strip()

    def of(self, table: str) -> Iterator[list[str]]:
        return (cells for name, cells in self.lines if name == table)


@pytest.fixture
def shop(add_product: AddProduct) -> dict[str, Product]:
    """Forty products of three types whose colours overlap, so that some neighbours are wrong."""
    rng = np.random.default_rng(0)
    shop = {}
    for at, shade in enumerate(rng.integers(0, 200, (40, 3)).tolist()):
        kind = ("Shirts", "Shoes", "Hats & <b>caps</b>")[int(shade[0] > 70) + int(shade[0] > 150)]
        shop[f"p{at}"] = add_product(f"p{at}", tuple(shade), product_type=kind, gender=("Men", "Women")[at % 2])
    build_index()
    return shop


def test_the_numbers_are_those_of_the_json(
    shop: dict[str, Product], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("evaluate_similarity", "-k", "4", "--json", "--html", str(tmp_path / "page.html"))
    printed = json.loads(capsys.readouterr().out)
    tables = Tables((tmp_path / "page.html").read_text())
    headline = {cells[0].replace(" + ", "+"): cells[1:] for cells in tables.of("headline")}
    for label, scores in printed["labels"].items():
        plain = printed["baseline"]["labels"][label]["p_at_k"]
        if scores["p_at_k"] is None:
            assert headline[label][:4] == ["–"] * 4
            continue
        assert [float(cell) for cell in headline[label][:3]] == [scores["p_at_k"], scores["spread"], plain]
        assert headline[label][4:] == [str(scores["queries"]), str(scores["left_out"])]
    types = {cells[0]: cells[1:] for cells in tables.of("classes product_type")}
    for value, scores in printed["classes"]["product_type"].items():
        assert [float(cell) for cell in types[value]] == [scores["p_at_k"], scores["plain"], scores["queries"]]


def test_it_needs_nothing_from_elsewhere(shop: dict[str, Product]) -> None:
    page = evaluation_page(evaluate_similarity(4))
    addresses = Tables(page).addresses
    assert addresses
    assert all(address.startswith("data:image/webp;base64,") for address in addresses)
    assert not re.search(r"https?:|url\(|<script|<link", page)
    assert "Hats &amp; &lt;b&gt;caps&lt;/b&gt;" in page
    assert "<b>caps" not in page


def test_the_curve_ends_at_the_headline(shop: dict[str, Product]) -> None:
    evaluation = evaluate_similarity(4)
    for ranking, labels in (("mix", evaluation.labels), ("plain", evaluation.baseline)):
        curve = evaluation.curve("product_type", ranking)
        assert curve is not None
        assert len(curve) == 4
        assert curve[-1] == pytest.approx(labels["product_type"].p_at_k, abs=2e-4)
        assert curve[0] == pytest.approx(labels["product_type"].p_at_1, abs=2e-4)
    assert evaluation.curve("colour", "mix") is None


def test_a_plot_puts_better_figures_higher_and_more_neighbours_to_the_right() -> None:
    drawn = plot("type", [Line("mix", 0, False, [0.9, 0.7, 0.62]), Line("plain", 0, True, [0.8, 0.65, 0.6])])
    mix, plain = (line.points for line in drawn.lines)
    assert [x for x, _ in mix] == sorted(x for x, _ in mix)
    assert all(above[1] < below[1] for above, below in zip(mix, plain, strict=True))
    assert [text for _, text in drawn.y_ticks] == ["0.60", "0.75", "0.90"]
    assert [text for _, text in drawn.x_ticks] == ["1", "2", "3"]


def test_confusion_shares_out_all_neighbours(shop: dict[str, Product]) -> None:
    evaluation = evaluate_similarity(4)
    found = confusion(evaluation)
    assert found is not None
    assert found.columns[-1] == "all others"
    for own, (value, queries, shares) in enumerate(found.rows):
        assert sum(shares) == pytest.approx(1)
        score = evaluation.classes["product_type"][value]
        assert queries == score.queries
        assert shares[own] == pytest.approx(score.p_at_k, abs=1e-3)  # every query has four neighbours


def test_best_and_worst_queries_are_marked_as_the_labels_say(shop: dict[str, Product]) -> None:
    chosen = extremes(evaluate_similarity(4))
    assert list(chosen) == ["Best queries", "Worst queries"]
    best, worst = chosen["Best queries"][0], chosen["Worst queries"][0]
    assert best.p_at_k > worst.p_at_k
    for queries in chosen.values():
        assert len({query.product.value for query in queries}) == len(queries)
        for query in queries:
            assert sum(each.right for each in query.rankings["mix"]) == round(4 * query.p_at_k)
            for each in (product for ranking in query.rankings.values() for product in ranking):
                assert each.right == (each.value == query.product.value)
                assert each.picture


def test_a_picture_that_is_gone_leaves_its_title(shop: dict[str, Product]) -> None:
    for product in shop.values():
        Path(product.thumbnail.path).unlink(missing_ok=True)
    page = evaluation_page(evaluate_similarity(4))
    assert "<img" not in page
    assert "Product p" in page


def test_without_labels_there_is_a_page_all_the_same(shop: dict[str, Product]) -> None:
    Product.objects.update(product_type="", gender="")
    page = evaluation_page(evaluate_similarity(1))
    assert "Mix beside plain network" in page
    assert "<figure" not in page
    assert "Best queries" not in page


def test_models_stand_side_by_side(
    shop: dict[str, Product], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_index("efficientnet-lite0")
    models = ["toy", "efficientnet-lite0"]
    capsys.readouterr()
    call_command(
        *("evaluate_similarity", "-k", "4", "--json", "--models", ",".join(models)),
        *("--html", str(tmp_path / "page.html")),
    )
    printed = json.loads(capsys.readouterr().out)["models"]
    page = (tmp_path / "page.html").read_text()
    lines = list(Tables(page).of("headline"))
    assert [cell for cell in lines[0] if cell] == models
    (line,) = (cells for cells in lines if cells[0] == "product_type")
    assert [float(line[1]), float(line[5])] == [printed[model]["labels"]["product_type"]["p_at_k"] for model in models]
    assert "Best queries" not in page

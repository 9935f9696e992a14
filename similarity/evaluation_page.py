"""An evaluation as one page of HTML that stands alone: no script, no address, pictures and plots within.

What is drawn is decided here, by numbers; `templates/similarity/evaluation.html` says how it looks.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from django.template.loader import render_to_string
from PIL import Image

from catalog.files import written_aside
from similarity import products
from similarity.evaluation import Comparison, Evaluation, Fold
from similarity.mix import format_mix
from similarity.products import Product
from similarity.ranking import reachable_rights, rights, shares_right

CURVES = ("product_type", "gender", "colour", "product_type+gender", "product_type+gender+colour")
"""The labels whose precision is drawn for every k."""
CONFUSED = 12
"""Most product types of the heat table."""
EXTREMES = 4
"""Best queries that are pictured, and as many worst."""
NEIGHBOURS = 6
"""Neighbours that are pictured of each."""
PICTURE_PX = 112
COLOURS = 4
"""Of the curves, in the template; a fifth model has the first one's again."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 200, 34, 8, 10, 24
"""Of a plot, and its margins, in its own units."""


@dataclass(frozen=True)
class Line:
    """A curve of a plot: `name` for its legend, `number` of its colour from 0, and its values at k = 1, 2, …"""

    name: str
    number: int
    dashed: bool
    values: Sequence[float]
    points: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Plot:
    """Curves over k in one frame; `ticks` are (place, text) along the axes."""

    label: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    frame: Mapping[str, float] = field(
        default_factory=lambda: {
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "bottom": HEIGHT - BOTTOM,
        }
    )


@dataclass(frozen=True)
class Confusion:
    """Which types the neighbours of a type bear. `rows`: (type, queries, shares by `columns`), shares from 0 to 1."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[float]]]


@dataclass(frozen=True)
class Pictured:
    """A product of a pictured query: `right` says whether it bears the query's label."""

    title: str
    value: str
    picture: str | None
    right: bool = True


@dataclass(frozen=True)
class Query:
    """A query and its first neighbours, by ranking."""

    product: Pictured
    p_at_k: float
    rankings: Mapping[str, Sequence[Pictured]]


def write_page(found: Evaluation | Comparison, path: Path) -> None:
    """Put the page at `path`, whole or not at all. Raises OSError."""
    with written_aside(path) as file:
        file.write(evaluation_page(found))


def evaluation_page(found: Evaluation | Comparison) -> str:
    """The page of one model's evaluation, or of several side by side."""
    one = found if isinstance(found, Evaluation) else None
    evaluations = _shortly_named({found.model: found} if isinstance(found, Evaluation) else found.evaluations)
    context: dict[str, Any] = {
        "evaluations": evaluations,
        "one": one,
        "products": found.products,
        "k": found.k,
        "mix": format_mix(found.mix),
        "folds": next(iter(evaluations.values())).folds,
        "made": datetime.now(UTC),
        "headline": headline(evaluations),
        "plots": plots(evaluations),
    }
    if one is not None:
        context["classes"] = one.classes
        context["confusion"] = confusion(one)
        context["extremes"] = extremes(one)
    return render_to_string("similarity/evaluation.html", context)


def _shortly_named(evaluations: Mapping[str, Evaluation]) -> Mapping[str, Evaluation]:
    """A folder by its own name, unless two have the same: a page that is passed on need not tell the whole path."""
    short = [Path(name).name if Path(name).is_dir() else name for name in evaluations]
    if len(set(short)) < len(short):
        return evaluations
    return dict(zip(short, evaluations.values(), strict=True))


def headline(evaluations: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """A row a label: by model its precision@k with spread, the plain network's, and their ratio."""
    some = next(iter(evaluations.values()))
    return [
        {
            "label": _words(name),
            "queries": scores.queries,
            "left_out": scores.left_out,
            "models": [
                {
                    "p_at_k": evaluation.labels[name].p_at_k,
                    "spread": evaluation.spread(name),
                    "plain": evaluation.baseline[name].p_at_k,
                    "ratio": evaluation.ratio(name),
                }
                for evaluation in evaluations.values()
            ],
        }
        for name, scores in some.labels.items()
    ]


def _words(label: str) -> str:
    """Several labels as one, with room to break the line."""
    return label.replace("+", " + ")


# --- plots --------------------------------------------------------------------------------------


def plots(evaluations: Mapping[str, Evaluation]) -> list[Plot]:
    """A plot for each of CURVES that the products have: the mix's curve and the plain network's, a colour a model."""
    drawn = []
    for name in CURVES:
        lines = []
        for number, (model, evaluation) in enumerate(evaluations.items()):
            for ranking in ("mix", "plain"):
                values = evaluation.curve(name, ranking)
                if values:
                    legend = ranking if len(evaluations) == 1 else f"{model}, {ranking}"
                    lines.append(Line(legend, number % COLOURS, ranking == "plain", values))
        if lines:
            drawn.append(plot(_words(name), lines))
    return drawn


def plot(label: str, lines: Sequence[Line]) -> Plot:
    """The curves, in a frame that goes from the tenth below the lowest to the tenth above the highest value."""
    k = len(lines[0].values)
    low = np.floor(min(min(line.values) for line in lines) * 10) / 10
    high = max(low + 0.1, np.ceil(max(max(line.values) for line in lines) * 10) / 10)

    def x(at: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * ((at - 1) / (k - 1) if k > 1 else 0.5), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * float((high - value) / (high - low)), 1)

    return Plot(
        label,
        [
            Line(line.name, line.number, line.dashed, line.values, [(x(i), y(v)) for i, v in enumerate(line.values, 1)])
            for line in lines
        ],
        x_ticks=[(x(at), str(at)) for at in sorted({1, (k + 1) // 2, k})],
        y_ticks=[(y(value), f"{value:.2f}") for value in np.linspace(low, high, 3)],
    )


# --- which type is taken for which --------------------------------------------------------------


def confusion(evaluation: Evaluation, label: str = "product_type") -> Confusion | None:
    """Among the most frequent types, what share of the mix's neighbours bears which; None without two types."""
    asked: Counter[str] = Counter()
    found: dict[str, Counter[str]] = {}
    for fold in evaluation.folds:
        values = fold.unseen.labels[label]
        for query, neighbours in zip(fold.asked.tolist(), fold.neighbours["mix"].tolist(), strict=True):
            there = [values[at] for at in neighbours if at >= 0]
            if values[query] and there:
                asked[values[query]] += 1
                found.setdefault(values[query], Counter()).update(there)
    columns = [value for value, _ in sorted(asked.items(), key=lambda item: (-item[1], item[0]))[:CONFUSED]]
    if len(asked) < 2:
        return None
    rows = []
    for value in columns:
        total = found[value].total()
        shares = [found[value][other] / total for other in columns]
        rows.append((value, asked[value], [*shares, max(0.0, 1 - sum(shares))]))
    return Confusion([*columns, "all others"], rows)


# --- queries that went well, and badly -----------------------------------------------------------


def extremes(evaluation: Evaluation, label: str = "product_type") -> dict[str, list[Query]]:
    """The best and the worst queries of the first half, one a type at most, with their first neighbours pictured.

    A query is measured by how many of the right neighbours that it could have it has, so that a type of two products
    is not the worst for want of others. Of equals, those come first that most products could be right for; of the
    best, among these, those that the plain network does worst.
    """
    fold = evaluation.folds[0]
    codes = fold.codes(label)
    right, judged = rights(fold.neighbours["mix"], codes, fold.asked)
    at = fold.asked[judged]
    reachable = reachable_rights(codes, fold.unseen.groups)[at] if len(at) else np.empty(0, np.int64)
    there = np.minimum(evaluation.k, reachable)
    reached = right.sum(axis=1) / np.maximum(1, there)
    plain = shares_right(fold.neighbours["plain"], codes, fold.asked)
    shares = shares_right(fold.neighbours["mix"], codes, fold.asked)
    possible = np.flatnonzero(reachable > 0).tolist()
    best = sorted(possible, key=lambda i: (-reached[i], -there[i], plain[i]))
    worst = sorted(possible, key=lambda i: (reached[i], -reachable[i]))
    values = fold.unseen.labels[label]
    chosen = {
        "Best queries": _one_a_value(best, [values[each] for each in at.tolist()]),
        "Worst queries": _one_a_value(worst, [values[each] for each in at.tolist()]),
    }
    shown = {i for each in chosen.values() for i in each}
    pictures = _Pictures(fold, label, [int(judged[i]) for i in shown])
    return {
        name: [pictures.query(int(judged[i]), float(shares[i])) for i in each] for name, each in chosen.items() if each
    }


def _one_a_value(order: Sequence[int], values: Sequence[str]) -> list[int]:
    """The first EXTREMES of them, no two of one value."""
    taken: dict[str, int] = {}
    for i in order:
        taken.setdefault(values[i], i)
        if len(taken) == EXTREMES:
            break
    return list(taken.values())


class _Pictures:
    """The products of some lines of a fold's rankings, with small pictures of them."""

    def __init__(self, fold: Fold, label: str, lines: Sequence[int]) -> None:
        self._fold = fold
        self._values = fold.unseen.labels[label]
        wanted = {int(fold.asked[line]) for line in lines}
        for neighbours in fold.neighbours.values():
            wanted |= {at for line in lines for at in neighbours[line, :NEIGHBOURS].tolist() if at >= 0}
        self._products = products.visible_by_id([fold.judged[at] for at in sorted(wanted)])
        self._made: dict[str, str | None] = {}

    def query(self, line: int, p_at_k: float) -> Query:
        own = int(self._fold.asked[line])
        return Query(
            self._pictured(own, own),
            p_at_k,
            {
                ranking: [self._pictured(at, own) for at in neighbours[line, :NEIGHBOURS].tolist() if at >= 0]
                for ranking, neighbours in self._fold.neighbours.items()
            },
        )

    def _pictured(self, at: int, query: int) -> Pictured:
        product_id = self._fold.judged[at]
        product = self._products.get(product_id)
        if product_id not in self._made:
            self._made[product_id] = _data_uri(product) if product else None
        return Pictured(
            title=product.title if product else product_id,
            value=self._values[at] or "no type",
            picture=self._made[product_id],
            right=self._values[at] == self._values[query],
        )


def _data_uri(product: Product) -> str | None:
    """The product's thumbnail, smaller still, as an address that holds it; None where it cannot be read."""
    try:
        with Image.open(product.thumbnail.path) as image:
            image.thumbnail((PICTURE_PX, PICTURE_PX))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "WEBP", quality=70)
    except (OSError, ValueError):
        return None
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""The page that shows why two products are alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from numpy.typing import NDArray

from similarity.explaining import HeatMap, heat_maps_of
from similarity.products import get_product
from similarity.services import Answer, NothingToCompare, SimilarityUnavailable, compare

logger = logging.getLogger(__name__)

COLDEST = 0.01
"""Regions below this are left out of the page: nobody would see them."""


@dataclass(frozen=True)
class Overlay:
    """What is laid over a picture, as SVG's attributes: a grid of `columns` × `rows` in that place of it.

    `cells` are those that are not cold: (column, row, opacity).
    """

    x: str
    y: str
    width: str
    height: str
    columns: int
    rows: int
    cells: Sequence[tuple[int, int, str]]
    words: str
    """What it shows, for those who do not see it."""


@dataclass(frozen=True)
class PartShown:
    """What a part adds to the score, and the most that it could, in hundredths."""

    name: str
    points: int
    most: int


@require_safe
def why(request: HttpRequest, product_id: str, other_id: str) -> HttpResponse:
    """Two products side by side, and where they match. Hidden products are there for staff only."""
    staff = bool(request.user.is_staff)
    product, other = (get_product(wanted) for wanted in (product_id, other_id))
    if product is None or other is None or not (staff or (product.is_visible and other.is_visible)):
        raise Http404
    match, parts, reason, status = None, [], "", 200
    overlays: Sequence[Overlay | None] = (None, None)
    try:
        answer = compare(product, other)
        match, parts = answer.matches[0], _parts(answer)
        overlays = [_overlay(heat_map) for heat_map in heat_maps_of(product, other)]
    except NothingToCompare:
        reason, status = _("One of these products has no picture yet that could be compared."), 409
    except SimilarityUnavailable as error:
        logger.warning("%s and %s cannot be compared: %s", product_id, other_id, error)
        reason, status = _("Where they match cannot be shown right now. Please come back soon."), 503
    context = {
        "product": product,
        "other": other,
        "match": match,
        "sides": list(zip((product, other), overlays, strict=True)),
        "parts": parts,
        "scale": max((part.most for part in parts), default=0),
        "reason": reason,
    }
    return render(request, "similarity/why.html", context, status=status)


def _parts(answer: Answer) -> list[PartShown]:
    names = {"style": _("Overall look"), "kind": _("Kind of product"), "colour": _("Colour")}
    total = sum(abs(weight) for weight in answer.mix.values())
    return [
        PartShown(names.get(part, part), round(100 * value), round(100 * abs(answer.mix[part]) / total))
        for part, value in answer.matches[0].parts.items()
    ]


def _overlay(heat_map: HeatMap) -> Overlay:
    rows, columns = heat_map.heat.shape
    left, top, right, bottom = heat_map.box
    x, y, width, height = (f"{100 * share:.2f}%" for share in (left, top, right - left, bottom - top))
    heats = np.ndenumerate(heat_map.heat)
    cells = [(column, row, f"{heat:.2f}") for (row, column), heat in heats if heat >= COLDEST]
    return Overlay(x, y, width, height, columns, rows, cells, _in_words(heat_map.heat))


def _in_words(heat: NDArray[np.float32]) -> str:
    """Where the warmest region lies, in ninths."""
    if heat.max() < COLDEST:
        return _("Map of the places that match: there are none")
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    places = [
        [_("top left"), _("top"), _("top right")],
        [_("left"), _("centre"), _("right")],
        [_("bottom left"), _("bottom"), _("bottom right")],
    ]
    place = places[int(3 * (row + 0.5) / heat.shape[0])][int(3 * (column + 0.5) / heat.shape[1])]
    return _("Map of the places that match; the warmest is at the %(place)s") % {"place": place}

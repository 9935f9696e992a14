"""The map of the catalogue: its page, and what the page's script asks for."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from catalog.templatetags.catalogue import picture_text
from similarity.maps import serving
from similarity.maps.building import map_is_behind
from similarity.maps.sheets import UNITS, TileName
from similarity.maps.storage import CatalogueMap, MapError, NoMap
from similarity.products import label_name

logger = logging.getLogger(__name__)

TILE_AGE_S = 60
"""How long a browser shows a tile without asking again; a product that was hidden is gone from it after that."""
LISTED_VALUES = 8
"""How many values of an attribute are linked where there is no JavaScript."""


@dataclass(frozen=True)
class Values:
    """An attribute, and links to the grid for its commonest values on the map."""

    name: str
    label: str
    links: list[tuple[str, str]]


@require_safe
def map_page(request: HttpRequest) -> HttpResponse:
    """The frame that the script fills; the map in words beside it. Says what is missing where there is no map."""
    try:
        visible = serving.visible_map()
    except MapError as error:
        if not isinstance(error, NoMap):
            logger.warning("No map: %s", error)
        return render(request, "similarity/map.html", {"trouble": str(error)})
    return render(
        request,
        "similarity/map.html",
        {
            "count": len(visible.cells),
            "regions": visible.regions(),
            "attributes": [
                Values(
                    label.name,
                    label_name(label.name),
                    [(value, _grid_url(label.name, value)) for value in label.values[:LISTED_VALUES]],
                )
                for label in visible.labels
                if label.values
            ],
            "behind": request.user.is_staff and map_is_behind(),
        },
    )


@require_safe
@cache_control(no_cache=True)
def places(request: HttpRequest) -> HttpResponseBase:
    """Where the pictures lie that visitors may see, and their labels (`VisibleMap.packed`)."""
    try:
        visible = serving.visible_map()
    except MapError as error:
        raise Http404 from error
    compressed = "gzip" in request.headers.get("Accept-Encoding", "")
    etag = f'"{visible.etag}{"-gzip" if compressed else ""}"'
    response = get_conditional_response(request, etag=etag)
    if response is None:
        content = visible.compressed if compressed else visible.packed
        response = HttpResponse(content, content_type="application/octet-stream")
        if compressed:
            response.headers["Content-Encoding"] = "gzip"
    response.headers["ETag"] = etag
    patch_vary_headers(response, ["Accept-Encoding"])
    return response


@require_safe
@cache_control(public=True, max_age=TILE_AGE_S)
def tile(request: HttpRequest, key: str, unit: int, x: int, y: int) -> HttpResponseBase:
    """A tile of the sprite sheets, without what is hidden from visitors at this moment."""
    shown = _kept(key)
    try:
        content = serving.visible_tile(shown, TileName(unit, x, y))
    except (KeyError, MapError) as error:
        raise Http404 from error
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    response = get_conditional_response(request, etag=etag) or HttpResponse(content, content_type="image/webp")
    response.headers["ETag"] = etag
    return response


@require_safe
@cache_control(no_cache=True)
def pieces(request: HttpRequest, key: str, x: int, y: int) -> JsonResponse:
    """The visible products in a tile of the nearest size: where, title, address, thumbnail."""
    found = serving.products_in(_kept(key), TileName(UNITS[0], x, y))
    return JsonResponse(
        {
            "products": [
                {
                    "x": column,
                    "y": row,
                    "url": product.get_absolute_url(),
                    "title": product.title,
                    "note": picture_text(product),
                    "thumbnail": product.thumbnail.url if product.thumbnail else "",
                }
                for column, row, product in found
            ]
        }
    )


def _kept(key: str) -> CatalogueMap:
    shown = serving.find_map(key)
    if shown is None:
        raise Http404
    return shown


def _grid_url(name: str, value: str) -> str:
    return f"{reverse('catalog:grid')}?{urlencode({name: value})}"

"""Pages of similarity's own, and two answers for whoever watches the server."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import condition, require_safe

from catalog.files import free_bytes
from catalog.reading import primary_trouble, replica_trouble
from similarity.forms import PAGE_REFINEMENT
from similarity.products import visible_by_id
from similarity.services import MAX_SEVERAL, SimilarityUnavailable, similar_to_several
from similarity.serving import serving_error

logger = logging.getLogger(__name__)

LIKE_K = 24


@dataclass(frozen=True)
class Pieces:
    """What a visitor likes and does not like: product ids, each once, the first word on it counts."""

    signs: dict[str, bool]

    @classmethod
    def asked(cls, query: QueryDict) -> Pieces:
        given = [(product_id, sign == "like") for sign in ("like", "unlike") for product_id in query.getlist(sign)]
        signs: dict[str, bool] = {}
        for product_id, liked in given[:MAX_SEVERAL]:
            signs.setdefault(product_id, liked)
        return cls(signs)

    def with_(self, product_id: str, *, liked: bool) -> str:
        """The query of the page with this piece too."""
        return Pieces({**self.signs, product_id: liked}).query()

    def without(self, product_id: str) -> str:
        return Pieces({other: liked for other, liked in self.signs.items() if other != product_id}).query()

    def query(self) -> str:
        query = QueryDict(mutable=True)
        for product_id, liked in self.signs.items():
            query.appendlist("like" if liked else "unlike", product_id)
        return "?" + query.urlencode()


@cache
def _embed_script() -> tuple[str, bytes]:
    """(digest, content)."""
    path = finders.find("site/embed.js")
    assert isinstance(path, str)
    content = Path(path).read_bytes()
    return hashlib.sha256(content).hexdigest()[:32], content


@require_safe
@cache_control(public=True, max_age=3600)
@condition(etag_func=lambda request: f'"{_embed_script()[0]}"')
def embed(request: HttpRequest) -> HttpResponse:
    """The script for other people's pages, under an address that stays (docs/embedding.md)."""
    return HttpResponse(_embed_script()[1], content_type="text/javascript; charset=utf-8")


@require_safe
def like(request: HttpRequest) -> HttpResponse:
    """What looks like some products and not like others; the address says which."""
    pieces = Pieces.asked(request.GET)
    known = visible_by_id(list(pieces.signs))
    pieces = Pieces({product_id: liked for product_id, liked in pieces.signs.items() if product_id in known})
    liked, unliked = (
        [known[each] for each, sign in pieces.signs.items() if sign is wanted] for wanted in (True, False)
    )
    trouble, matches = "", []
    if not liked:
        trouble = _("Choose at least one piece that you like: “More like this” on its page begins with it.")
    else:
        try:
            matches = list(similar_to_several(liked, unliked, LIKE_K, refinement=PAGE_REFINEMENT).matches)
        except SimilarityUnavailable as error:
            logger.warning("No similar items for %s: %s", ", ".join(pieces.signs), error)
            trouble = _("Similar items are being prepared. Please come back soon.")
    return render(
        request,
        "similarity/like.html",
        {
            "trouble": trouble,
            "pieces": [
                {
                    "product": known[product_id],
                    "liked": sign,
                    "turned": pieces.with_(product_id, liked=not sign),
                    "removed": pieces.without(product_id),
                }
                for product_id, sign in pieces.signs.items()
            ],
            "matches": [
                {
                    "match": match,
                    "liked": pieces.with_(match.product.product_id, liked=True),
                    "unliked": pieces.with_(match.product.product_id, liked=False),
                }
                for match in matches
            ],
        },
    )


def alive(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


LEAST_FREE_BYTES = 100 * 2**20
"""With less room on the disk, writing is about to fail."""


def ready(request: HttpRequest) -> JsonResponse:
    """200 when database, index and disk are as they should be, else 503 with what is wrong; `degraded` is what visitors
    do not notice."""
    trouble = {}
    if said := primary_trouble():
        trouble["database"] = said
    degraded = {"replica": said} if (said := replica_trouble()) else {}
    if error := serving_error():
        trouble["index"] = str(error)
    try:
        free = free_bytes(settings.DATA_DIR)
    except OSError as error:
        trouble["disk"] = f"The data folder cannot be looked at ({error.strerror})."
    else:
        if free < LEAST_FREE_BYTES:
            trouble["disk"] = f"The data folder's disk has {free >> 20} MiB left; make room."
    response = JsonResponse(
        {"ready": not trouble, "trouble": trouble, "degraded": degraded}, status=503 if trouble else 200
    )
    response["Cache-Control"] = "no-store"
    return response


def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus scrapes. For this machine alone unless VITRINE_METRICS opens it; else as if it were not there."""
    from similarity.metrics import CONTENT_TYPE, exposition

    # What came through a proxy, which is on this machine too, says for whom.
    near = (
        request.META.get("REMOTE_ADDR") in ("127.0.0.1", "::1", "", None) and "X-Forwarded-For" not in request.headers
    )
    if not (settings.METRICS == "open" or (settings.METRICS == "local" and near)):
        raise Http404
    return HttpResponse(exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

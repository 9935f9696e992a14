"""Searching with a picture: a visitor's own, or a part of a product's."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from catalog.fetching import MAX_LENGTH
from catalog.filters import SEARCH_MAX_LENGTH, VALUE_MAX_LENGTH
from catalog.images import ImageError, open_rgb
from similarity import products, queries
from similarity.cropping import CropBox, CropError
from similarity.forms import PAGE_REFINEMENT
from similarity.services import Answer, SimilarityUnavailable, similar_to_image
from similarity.throttles import wait_s

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

FOUND_K = 24
PART_PX = 1024
"""What the shorter side of a product's part keeps, where its picture has as much: about twice what the most demanding
of the usual networks look at."""
FILTERS = ("gender", "category", "product_type", "colour")
PARTS = (
    (CropBox(), gettext_lazy("the whole picture")),
    (CropBox(0.2, 0.2, 0.6, 0.6), gettext_lazy("its middle")),
    (CropBox(0, 0, 1, 0.5), gettext_lazy("its upper half")),
    (CropBox(0, 0.5, 1, 0.5), gettext_lazy("its lower half")),
)
"""Parts that can be chosen without drawing a box."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a picture: a part of it, words that find the matches, and values that they must have."""

    crop: CropBox
    words: str
    only: dict[str, str]

    @classmethod
    def read(cls, query: QueryDict) -> Asked:
        """Whatever makes no sense is as if it were not there."""
        try:
            crop = CropBox.parse(query.get("crop", ""))
        except CropError:
            crop = CropBox()
        given = {name: query.get(name, "") for name in FILTERS}
        words = query.get("q", "").strip()[:SEARCH_MAX_LENGTH]
        return cls(crop, words, {name: value for name, value in given.items() if 0 < len(value) <= VALUE_MAX_LENGTH})

    def answer(self, image: Image.Image) -> Answer:
        # A snapshot is less like a catalogue's picture than these are like each other, so nothing is cut off.
        only = {name: (value,) for name, value in self.only.items()}
        refinement = replace(PAGE_REFINEMENT, min_score=None, only=only, words=self.words)
        return similar_to_image(self.crop.of(image), FOUND_K, refinement=refinement)


# No cookie is read and nothing of a visitor's is changed, so there is nothing to forge; and a picture may be dropped on
# any page, none of which needs a token for it.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def picture_search(request: HttpRequest) -> HttpResponse:
    """The form for a picture; one that is sent is kept and its page shown. `?product=` searches with a product's."""
    if request.method == "POST":
        return _too_often(request) or _keep(request)
    product_id = request.GET.get("product", "")
    if not product_id:
        return _form(request)
    product = products.visible_by_id([product_id]).get(product_id)
    if product is None or not product.image:
        raise Http404
    return _too_often(request) or _found_by_product(request, product)


def _form(request: HttpRequest, trouble: str = "", status: int = 200) -> HttpResponse:
    context = {
        "trouble": trouble,
        "address": request.POST.get("url", "")[:MAX_LENGTH],
        "words": request.POST.get("q", request.GET.get("q", ""))[:SEARCH_MAX_LENGTH],
        "fetches": settings.FETCH != "off",
    }
    return render(request, "similarity/picture_search.html", context, status=status)


def _too_often(request: HttpRequest) -> HttpResponse | None:
    """The answer to a client that has to wait."""
    seconds = wait_s(request)
    if seconds is None:
        return None
    said = ngettext(
        "That was a lot of pictures. Please try again in %(seconds)d second.",
        "That was a lot of pictures. Please try again in %(seconds)d seconds.",
        seconds,
    )
    response = _form(request, said % {"seconds": seconds}, status=429)
    response["Retry-After"] = str(seconds)
    return response


def _keep(request: HttpRequest) -> HttpResponse:
    upload, address = request.FILES.get("image"), request.POST.get("url", "").strip()
    if upload is None and not address:
        return _form(request, _("Choose a picture first."), status=400)
    try:
        token = queries.keep(queries.read_given(upload, address))
    except ImageError as error:
        return _form(request, str(error), status=400)
    words = urlencode({"q": q}) if (q := request.POST.get("q", "").strip()[:SEARCH_MAX_LENGTH]) else ""
    return HttpResponseRedirect(reverse("similarity:kept-picture-search", args=[token]) + (words and f"?{words}"))


@require_safe
def kept_picture_search(request: HttpRequest, token: str) -> HttpResponse:
    """What looks like a picture that was sent a while ago, or like a part of it."""
    return _too_often(request) or _found_by_kept(request, token)


@require_safe
def kept_picture(request: HttpRequest, token: str) -> FileResponse:
    """The picture itself, for whoever has its token."""
    path = queries.kept_path(token)
    if path is None:
        raise Http404
    response = FileResponse(path.open("rb"), content_type="image/webp")
    response["Cache-Control"] = f"private, max-age={int(queries.KEPT_S)}"
    return response


def _found_by_product(request: HttpRequest, product: products.Product) -> HttpResponse:
    asked = Asked.read(request.GET)
    try:
        # A shop's original may have 25 megapixels; the part keeps the pixels that it needs.
        image = open_rgb(Path(product.image.path), math.ceil(PART_PX / min(asked.crop.width, asked.crop.height)))
    except ImageError as error:
        logger.warning("The picture of %s cannot be searched with: %s", product.product_id, error)
        raise Http404 from error
    shown = {"url": product.image.url, "width": product.image_width, "height": product.image_height}
    return _found(request, asked, image, shown, product)


def _found_by_kept(request: HttpRequest, token: str) -> HttpResponse:
    image = queries.kept_image(token)
    if image is None:
        return _form(request, _("This picture is no longer kept. Please choose it again."), status=404)
    address = reverse("similarity:kept-picture", args=[token])
    shown = {"url": address, "width": image.width, "height": image.height}
    return _found(request, Asked.read(request.GET), image, shown)


def _found(
    request: HttpRequest,
    asked: Asked,
    image: Image.Image,
    shown: dict[str, Any],
    product: products.Product | None = None,
) -> HttpResponse:
    """The page: `image` is what is searched with, `shown` where it lies and how large it is there."""
    answer, trouble = None, ""
    try:
        answer = asked.answer(image)
    except SimilarityUnavailable as error:
        logger.warning("No answer to a picture: %s", error)
        trouble = _("Similar items are being prepared. Please come back soon.")
    return render(
        request,
        "similarity/picture_found.html",
        {
            "picture": shown,
            "product": product,
            "crop": asked.crop,
            "words": asked.words,
            "parts": [(words, _query(request, box), box == asked.crop) for box, words in PARTS],
            "filters": [
                {"name": name, "label": products.label_name(name), "values": values, "chosen": asked.only.get(name, "")}
                for name in FILTERS
                if (values := products.values_of(name))
            ],
            "answer": answer,
            "trouble": trouble,
        },
    )


def _query(request: HttpRequest, box: CropBox) -> str:
    """The page's query with another part."""
    query = request.GET.copy()
    query.pop("crop", None)
    if not box.is_whole:
        query["crop"] = str(box)
    return "?" + query.urlencode()

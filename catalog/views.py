"""The catalogue's pages."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from catalog.api_errors import PROBLEMS
from catalog.browsing import Browsing
from catalog.facets import counted_facets
from catalog.filters import SORTS, ProductFilter
from catalog.models import Product
from catalog.structured import product_json
from catalog.suggestions import did_you_mean

PRODUCTS_PER_PAGE = 24
LANGUAGE_KEPT_S = 365 * 24 * 3600


@require_safe
def grid(request: HttpRequest) -> HttpResponse:
    """The catalogue, narrowed by what the address asks for. Two queries, and one for words that were not asked lately;
    where nothing was found, a few more for the words that may have been meant."""
    visible = Product.objects.visible().defer("extra", "source")
    selection = ProductFilter(request.GET, visible).selection
    found = Browsing(selection, visible)
    # A page that does not exist is answered with the nearest one that does.
    page: Page[Product] = Paginator(cast(Any, found), PRODUCTS_PER_PAGE).get_page(request.GET.get("page"))
    facets = counted_facets(found)
    better = None if len(found) else did_you_mean(selection)
    return render(
        request,
        "catalog/grid.html",
        {
            "page": page,
            "page_numbers": [
                (number, selection.query(number) if isinstance(number, int) else "")
                for number in page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)
            ],
            # The first page is "?" here, so that "" is left for the gaps.
            "previous": selection.query(page.previous_page_number()) if page.has_previous() else "",
            "next": selection.query(page.next_page_number()) if page.has_next() else "",
            "selection": selection,
            "better": better and (better, selection.searching(better).query()),
            "facets": facets,
            "chips": [value for facet in facets for value in facet.chosen],
            "sorts": [
                (label, selection.sorted_by(sort).query(), sort == selection.sort)
                for sort, label in (("", _("Catalogue order")), *SORTS)
            ],
            "canonical": request.build_absolute_uri(request.path + selection.query(page.number).rstrip("?")),
        },
    )


@require_safe
def language(request: HttpRequest, code: str) -> HttpResponse:
    """Remember a language and go back. By GET, so that no page needs a form's token: all it changes is words."""
    if code not in dict(settings.LANGUAGES):
        raise Http404
    back = request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure()):
        back = "/"
    response = HttpResponseRedirect(back)
    kept: dict[str, Any] = {"max_age": LANGUAGE_KEPT_S, "httponly": True, "samesite": "Lax", "secure": settings.HTTPS}
    response.set_cookie(settings.LANGUAGE_COOKIE_NAME, code, **kept)
    return response


@require_safe
def product(request: HttpRequest, product_id: str) -> HttpResponse:
    """One product and what looks like it. Hidden products are there for staff only."""
    product = get_object_or_404(Product, product_id=product_id)
    if not product.is_visible and not request.user.is_staff:
        raise Http404
    canonical = request.build_absolute_uri(product.get_absolute_url())
    picture_url = request.build_absolute_uri(product.image.url) if product.image else ""
    return render(
        request,
        "catalog/product.html",
        {
            "product": product,
            "canonical": canonical,
            "picture_url": picture_url,
            "structured": product_json(product, canonical, picture_url),
        },
    )


@require_safe
def problems(request: HttpRequest) -> HttpResponse:
    """What the API's problems mean: the addresses that they have as their type lead here."""
    return render(request, "catalog/problems.html", {"problems": PROBLEMS})

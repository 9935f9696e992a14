"""The catalogue for search engines: a sitemap, in files of 10,000 addresses (https://www.sitemaps.org). Of the 50,000
that one may have, writing takes seconds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import sitemaps
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.browsing import Browsing
from catalog.columnar import get_columns
from catalog.filters import Selection
from catalog.models import Product

if TYPE_CHECKING:
    ProductSitemapBase = sitemaps.Sitemap[Product]
else:  # generic for the type checker only
    ProductSitemapBase = sitemaps.Sitemap


class ProductSitemap(ProductSitemapBase):
    """Every product that visitors may see."""

    limit = 10_000

    def items(self) -> Any:  # a sequence by its length and slices, which is all that is asked of it
        return Browsing(Selection({}), Product.objects.visible().only("product_id", "updated_at"))

    def lastmod(self, item: Product) -> datetime:
        return item.updated_at

    def get_latest_lastmod(self) -> datetime | None:
        latest: datetime | None = get_columns().kept("latest change", _latest_change)
        return latest


def _latest_change() -> datetime | None:
    latest: datetime | None = Product.objects.visible().aggregate(latest=Max("updated_at"))["latest"]
    return latest


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """What search engines may visit: pages, and not the grid's endless combinations of filters."""
    lines = [
        "User-agent: *",
        "Disallow: /admin/",
        "Disallow: /api/",
        f"Disallow: {reverse('catalog:grid')}?*&",
        f"Sitemap: {request.build_absolute_uri(reverse('sitemap'))}",
    ]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")

"""The catalogue's pages and pictures."""

from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import path

from catalog import converters, media, sitemaps, views  # noqa: F401  (registers <product_id:…>)


def favicon(request: HttpRequest) -> HttpResponseRedirect:
    """For pages that name no icon of their own, such as the admin's."""
    return HttpResponseRedirect(staticfiles_storage.url("site/favicon.svg"))


app_name = "catalog"
urlpatterns = [
    path("", views.grid, name="grid"),
    path("products/<product_id:product_id>/", views.product, name="product"),
    path("language/<slug:code>/", views.language, name="language"),
    path("media/<path:path>", media.picture, name="picture"),
    path("favicon.ico", favicon),
    path("robots.txt", sitemaps.robots),
]

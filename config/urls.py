"""Which address answers with what. Catalogue and similarity meet here and in the templates only."""

from django.contrib import admin
from django.contrib.sitemaps import views as sitemaps
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from catalog import api_errors, views
from catalog import api_urls as catalog_api
from catalog.sitemaps import ProductSitemap
from similarity import api_urls as similarity_api

v1 = [
    *similarity_api.urlpatterns,
    *catalog_api.urlpatterns,  # last: an id may contain slashes
]

SITEMAPS = {"products": ProductSitemap}

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include((v1, "v1"))),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api-docs"),
    path("api/problems/", views.problems, name="api-problems"),
    re_path(r"^api/[\s\S]*$", api_errors.unknown),
    path("sitemap.xml", sitemaps.index, {"sitemaps": SITEMAPS, "sitemap_url_name": "sitemaps"}, name="sitemap"),
    path("sitemap-<section>.xml", sitemaps.sitemap, {"sitemaps": SITEMAPS}, name="sitemaps"),
    path("", include("similarity.urls")),
    path("", include("catalog.urls")),
]

handler400 = "catalog.api_errors.bad_request"
handler500 = "catalog.api_errors.server_error"

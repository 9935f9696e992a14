"""Addresses outside the versioned API."""

from django.urls import path

from catalog import converters  # noqa: F401  (registers <product_id:…>)
from similarity import api, map_page, picture_page, views, why_page

app_name = "similarity"
urlpatterns = [
    path("get_similar", api.RecipeView.as_view(), name="get-similar"),
    path("embed.js", views.embed, name="embed"),
    path("search/picture/", picture_page.picture_search, name="picture-search"),
    path("search/picture/<slug:token>/", picture_page.kept_picture_search, name="kept-picture-search"),
    path("search/picture/<slug:token>.webp", picture_page.kept_picture, name="kept-picture"),
    path("like/", views.like, name="like"),
    path("map/", map_page.map_page, name="map"),
    path("map/places.bin", map_page.places, name="map-places"),
    path("map/<slug:key>/tiles/<int:unit>/<int:x>/<int:y>.webp", map_page.tile, name="map-tile"),
    path("map/<slug:key>/products/<int:x>/<int:y>.json", map_page.pieces, name="map-products"),
    # Before the catalogue's own pages: an id may contain slashes.
    path("products/<product_id:product_id>/why/<product_id:other_id>/", why_page.why, name="why"),
    path("metrics", views.metrics, name="metrics"),
    path("healthz", views.alive, name="alive"),
    path("readyz", views.ready, name="ready"),
]

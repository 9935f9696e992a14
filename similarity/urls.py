"""Addresses outside the versioned API."""

from django.urls import path

from catalog import converters  # noqa: F401  (registers <product_id:…>)
from similarity import api, picture_page, views, why_page

app_name = "similarity"
urlpatterns = [
    path("get_similar", api.RecipeView.as_view(), name="get-similar"),
    path("embed.js", views.embed, name="embed"),
    path("search/picture/", picture_page.picture_search, name="picture-search"),
    path("search/picture/<slug:token>/", picture_page.kept_picture_search, name="kept-picture-search"),
    path("search/picture/<slug:token>.webp", picture_page.kept_picture, name="kept-picture"),
    path("like/", views.like, name="like"),
    # Before the catalogue's own pages: an id may contain slashes.
    path("products/<product_id:product_id>/why/<product_id:other_id>/", why_page.why, name="why"),
    path("healthz", views.alive, name="alive"),
    path("readyz", views.ready, name="ready"),
]

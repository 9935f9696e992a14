"""Addresses outside the versioned API."""

from django.urls import path

from catalog import converters  # noqa: F401  (registers <product_id:…>)
from similarity import api, explain_views, views

app_name = "similarity"
urlpatterns = [
    path("get_similar", api.RecipeView.as_view(), name="get-similar"),
    path("products/<product_id:product_id>/why/<product_id:other_id>/", explain_views.why, name="why"),
    path("healthz", views.alive, name="alive"),
    path("readyz", views.ready, name="ready"),
]

"""Addresses outside the versioned API."""

from django.urls import path

from similarity import api, views

app_name = "similarity"
urlpatterns = [
    path("get_similar", api.RecipeView.as_view(), name="get-similar"),
    path("like/", views.like, name="like"),
    path("healthz", views.alive, name="alive"),
    path("readyz", views.ready, name="ready"),
]

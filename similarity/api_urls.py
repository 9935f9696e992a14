"""Addresses below /api/v1/."""

from django.urls import path

from catalog import converters  # noqa: F401  (registers <product_id:…>)
from similarity import api, builds_api, explain_api

urlpatterns = [
    path("products/<product_id:product_id>/similar/", api.SimilarView.as_view(), name="similar"),
    path(
        "products/<product_id:product_id>/explain/<product_id:other_id>/",
        explain_api.ExplainView.as_view(),
        name="explain",
    ),
    path("similar/", api.SeveralView.as_view(), name="similar-to-several"),
    path("search/image/", api.ImageSearchView.as_view(), name="search-image"),
    path("builds/", builds_api.BuildsView.as_view(), name="builds"),
    path("tasks/<uuid:task_id>/", builds_api.TaskView.as_view(), name="task"),
    path("index/", api.IndexView.as_view(), name="index"),
]

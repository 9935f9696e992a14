"""The catalogue's half of the API, version 1.

`products/<product_id>/` takes slashes in: patterns such as `products/<product_id>/similar/` come before it.
"""

from django.urls import path

from catalog import api, converters  # noqa: F401  (registers <product_id:…>)

urlpatterns = [
    path("suggest/", api.SuggestView.as_view(), name="suggest"),
    path("facets/", api.FacetsView.as_view(), name="facets"),
    path("products/", api.ProductList.as_view(), name="products"),
    path("products/<product_id:product_id>/image/", api.ProductImage.as_view(), name="product-image"),
    path("products/<product_id:product_id>/", api.ProductDetail.as_view(), name="product"),
]

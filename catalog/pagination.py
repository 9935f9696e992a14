"""Pages of the API.

In a file of its own: Django REST framework reads it while its views are still being imported.
"""

from rest_framework.pagination import PageNumberPagination


class ProductPagination(PageNumberPagination):
    """Numbered pages of products."""

    page_size = 24
    page_size_query_param = "page_size"
    max_page_size = 100

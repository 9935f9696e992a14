"""The least that Django can do with this project's settings: one query, one line; for `bench/site.py`."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

application = get_wsgi_application()


def bare(request: HttpRequest) -> HttpResponse:
    from catalog.models import Product

    return HttpResponse(f"{Product.objects.only('title').first()}\n", content_type="text/plain")


urlpatterns = [path("", bare)]
settings.ROOT_URLCONF = __name__

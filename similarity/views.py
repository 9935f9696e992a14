"""Is it alive, can it answer? For whoever watches the server."""

from __future__ import annotations

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse

from similarity.products import count_products
from similarity.serving import serving_error


def alive(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


def ready(request: HttpRequest) -> JsonResponse:
    """200 when database and index are as they should be, else 503 with what is wrong."""
    trouble = {}
    try:
        count_products()
    except DatabaseError:
        trouble["database"] = "It does not answer."
    if error := serving_error():
        trouble["index"] = str(error)
    return JsonResponse({"ready": not trouble, "trouble": trouble}, status=503 if trouble else 200)

"""Serves pictures, with DEBUG on or off: WhiteNoise serves static files only."""

from __future__ import annotations

import re

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe
from django.views.static import serve

from catalog.renditions import make_rendition

OUR_NAMES = re.compile(
    r"images/[0-9a-f]{2}/[0-9a-f]{64}\.(?P<image>jpg|png|webp|gif)"
    r"|thumbnails/[0-9a-f]{2}/[0-9a-f]{64}(?P<side>-[0-9]+)?\.(?P<thumbnail>webp)"
)
# Said here because Python's own table lacks webp, and a browser shows no "application/octet-stream".
CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}


@require_safe
def picture(request: HttpRequest, path: str) -> HttpResponseBase:
    """A picture by the name made of its SHA-256. Anything else in the folder does not exist for visitors."""
    name = OUR_NAMES.fullmatch(path)
    if not name or (name["side"] and not make_rendition(path)):
        raise Http404
    response = serve(request, path, document_root=str(settings.MEDIA_ROOT))
    response.headers["Content-Type"] = CONTENT_TYPES[name["image"] or name["thumbnail"]]
    response.headers["X-Content-Type-Options"] = "nosniff"
    # The name is made of the content, so that what it stands for never changes.
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response

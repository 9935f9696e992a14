"""Answers that may be kept: an ETag of their content, 304 where it is known, and for how long nobody has to ask."""

from __future__ import annotations

from hashlib import md5
from typing import Any, ClassVar

from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.decorators import method_decorator
from django.utils.http import quote_etag
from django.views.decorators.http import conditional_page
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

ASK_AGAIN_S = 60
"""For how long an answer may be shown that a minute more or less changes nothing of."""


@method_decorator(conditional_page, name="dispatch")
class Cacheable(APIView):
    """GET answers with an ETag, and 304 where If-None-Match names it."""

    max_age_s: ClassVar[int] = 0
    """0: keep it, but ask each time whether it still holds."""
    speaks: ClassVar[bool] = False
    """Whether it has words for people, whose language a cookie of the site chooses too."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        if request.method not in ("GET", "HEAD") or answer.status_code != 200:
            return answer
        if getattr(request, "auth", None) is not None:
            patch_cache_control(answer, private=True, no_cache=True)
        elif self.max_age_s:
            patch_cache_control(answer, public=True, max_age=self.max_age_s)
        else:
            patch_cache_control(answer, public=True, no_cache=True)
        if self.speaks:
            patch_vary_headers(answer, ["Cookie"])
        return answer


def etag_of(data: Any) -> str:
    """The ETag that `Cacheable` gives an answer with this content."""
    return quote_etag(md5(JSONRenderer().render(data), usedforsecurity=False).hexdigest())

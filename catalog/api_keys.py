"""Who may change things over HTTP: whoever sends a key. Reading is for everybody, and opens no session."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_api_key.permissions import KeyParser

from catalog.models import ApiKey

logger = logging.getLogger(__name__)


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key <prefix>.<secret>`. The key itself is neither kept nor logged."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        given = KeyParser().get(request._request)
        if not given:
            return None
        prefix = given.partition(".")[0]
        key = ApiKey.objects.filter(prefix=prefix).first() if prefix.isalnum() else None
        if key is None or not key.is_valid(given):
            raise AuthenticationFailed(_("There is no such API key."))
        # Only who has the whole key is told what became of it.
        if key.revoked:
            raise PermissionDenied(_("The API key has been revoked."))
        if key.has_expired:
            raise PermissionDenied(_("The API key has expired."))
        return AnonymousUser(), key

    def authenticate_header(self, request: Request) -> str:
        return f'{KeyParser.keyword} realm="Vitrine"'


class _KeyPermission(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in view.open_to_all:
            return True
        key = key_of(request)
        if key is None:
            return False
        if not getattr(key, view.scope):
            raise PermissionDenied(_("The API key may not do this."))
        return True


class Keyed(APIView):
    """A view that asks for a key with the permission `scope`, but for methods that are open to all."""

    scope: ClassVar[str]
    open_to_all: ClassVar[Sequence[str]] = SAFE_METHODS
    knows_keys_when_open: ClassVar[bool] = False
    """Whether who sends a key with an open method is told more; else it is not looked at."""
    permission_classes = (_KeyPermission,)

    def get_authenticators(self) -> list[BaseAuthentication]:
        if self.request is not None and self.request.method in self.open_to_all and not self.knows_keys_when_open:
            return []
        return [KeyAuthentication()]

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        if request.method not in self.open_to_all:
            answer.setdefault("Cache-Control", "no-store")
        return answer

    def note(self, request: Request, done: str) -> None:
        """A line in the log: who has done what."""
        key = key_of(request)
        logger.info("API key %s (%s): %s", key, key and key.prefix, done)


def key_of(request: Request) -> ApiKey | None:
    """The key that a request was sent with."""
    return request.auth if isinstance(request.auth, ApiKey) else None

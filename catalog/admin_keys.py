"""Making and revoking keys to the API."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.translation import gettext as _
from rest_framework_api_key.admin import APIKeyModelAdmin
from rest_framework_api_key.models import APIKey

from catalog.models import ApiKey

# The library's own keys know no permissions, and nothing here asks for them.
admin.site.unregister(APIKey)


@admin.register(ApiKey)
class ApiKeyAdmin(APIKeyModelAdmin):
    """A key is shown once, when it is made."""

    list_display = (  # type: ignore[assignment]
        "name",
        "prefix",
        "products",
        "builds",
        "created",
        "expiry_date",
        "_has_expired",
        "revoked",
    )
    list_filter = ("revoked", "products", "builds")  # type: ignore[assignment]
    fields = ("name", "products", "builds", "expiry_date", "revoked", "prefix")

    def save_model(self, request: HttpRequest, obj: Any, form: Any = None, change: bool = False) -> None:
        if change:
            obj.save()
            return
        key = ApiKey.objects.assign_key(obj)
        obj.save()
        said = _("The key of “%(name)s” is %(key)s. Keep it in a safe place: it is not shown again.")
        self.message_user(request, said % {"name": obj.name, "key": key}, messages.WARNING)

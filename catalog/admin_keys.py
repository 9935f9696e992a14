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

    list_display = ("name", "prefix", "products", "builds", "expiry_date", "revoked")
    list_filter = ("revoked", "products", "builds")  # type: ignore[assignment]
    fields = ("name", "products", "builds", "expiry_date", "revoked", "prefix")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        """In the words of the site: the library has none in other languages."""
        options["labels"] = {"name": _("name"), "expiry_date": _("expires"), "revoked": _("revoked")}
        options["help_texts"] = {
            "name": _("Who has the key: it stands in the log beside what was written with it."),
            "expiry_date": _("From then on it opens nothing. Empty: never."),
            "revoked": _("Opens nothing from now on. This cannot be undone."),
        }
        return super().get_form(request, obj, change, **options)

    def save_model(self, request: HttpRequest, obj: Any, form: Any = None, change: bool = False) -> None:
        if change:
            obj.save()
            return
        key = ApiKey.objects.assign_key(obj)
        obj.save()
        said = _("The key of “%(name)s” is %(key)s. Keep it in a safe place: it is not shown again.")
        self.message_user(request, said % {"name": obj.name, "key": key}, messages.WARNING)

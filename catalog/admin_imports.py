"""The page of past imports: what came of each, and the rows that it rejected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from catalog.importing.runs import rejects_path, settle_interrupted
from catalog.models import ImportRun, Product

if TYPE_CHECKING:
    RunModelAdmin = admin.ModelAdmin[ImportRun]
else:  # generic for the type checker only
    RunModelAdmin = admin.ModelAdmin


def rejects_response(file: Path, name: str) -> FileResponse:
    """A file of rejected rows, to be stored and not shown."""
    return FileResponse(file.open("rb"), as_attachment=True, filename=name, content_type="text/csv; charset=utf-8")


@admin.register(ImportRun)
class ImportRunAdmin(RunModelAdmin):
    """To be read only; who may import may see what was imported."""

    list_display = [
        "began_at",
        "file_name",
        "by",
        "outcome",
        "created",
        "updated",
        "unchanged",
        "missing",
        "rejects",
    ]
    list_per_page = 50
    search_fields = ["file_name", "who"]
    fields = [
        ("began_at", "took"),
        "by",
        "file_name",
        "sha256",
        "chosen",
        "state",
        "error",
        "rows",
        ("created", "updated", "unchanged"),
        "rejects",
        "missing",
    ]
    readonly_fields = ["by", "took", "chosen", "rejects"]

    def get_urls(self) -> list[URLPattern]:
        guarded: Any = self.admin_site.admin_view(self.rejects_view)
        return [path("<int:key>/rejects.csv", guarded, name="catalog_importrun_rejects"), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        products: Any = self.admin_site.get_model_admin(Product)
        return super().has_view_permission(request, obj) or products.has_import_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        settle_interrupted()
        return super().changelist_view(request, extra_context)

    def rejects_view(self, request: HttpRequest, key: int) -> FileResponse:
        """The rows that an import rejected, as a file."""
        run = self.get_object(request, str(key))
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if run is None or not (file := rejects_path(run)).is_file():
            raise Http404
        return rejects_response(file, f"rejects-{run.pk}.csv")

    @admin.display(description=_("who"), ordering="who")
    def by(self, run: ImportRun) -> str:
        return run.who or str(_("command line"))

    @admin.display(description=_("state"), ordering="state")
    def outcome(self, run: ImportRun) -> str:
        state = str(ImportRun.State(run.state).label)
        return f"{state}: {Truncator(run.error).chars(120)}" if run.error else state

    @admin.display(description=_("seconds"), ordering="seconds")
    def took(self, run: ImportRun) -> str:
        return "–" if run.state == ImportRun.State.RUNNING else f"{run.seconds:.1f}"

    @admin.display(description=_("options"))
    def chosen(self, run: ImportRun) -> str:
        return ", ".join(f"{name}: {value}" for name, value in run.options.items()) or "–"

    @admin.display(description=_("rejected"), ordering="rejected")
    def rejects(self, run: ImportRun) -> SafeString | str:
        if not run.rejected:
            return "0"
        if not rejects_path(run).is_file():
            return gettext("%d, no longer kept") % run.rejected
        said = ngettext("Download %d row", "Download %d rows", run.rejected) % run.rejected
        return format_html('<a href="{}">{}</a>', reverse("admin:catalog_importrun_rejects", args=[run.pk]), said)

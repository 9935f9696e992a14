"""The catalogue's file in the admin: uploaded with a preview first, and downloaded.

Addresses, permissions, buttons and the page's frame are django-import-export's. What happens to a file is not: its
resources read a whole table into memory and go through it row by row, without line numbers; here the import of
`import_fashion` itself is tried and then done (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST
from import_export.admin import ImportExportMixin

from catalog.admin_imports import rejects_response
from catalog.columns import FIELD_OF
from catalog.exporting import catalogue_lines
from catalog.importing import pending
from catalog.importing.pending import Pending
from catalog.importing.plan import SHOWN, Plan
from catalog.importing.runs import sha256_of
from catalog.importing.service import (
    CatalogueFileError,
    ImportOptions,
    ImportRefusedError,
    ImportReport,
    OutcomeChangedError,
    import_catalogue,
)
from catalog.models import ImportRun, Product

_LINES_A_CHUNK = 500
MISSING = [
    ("keep", gettext_lazy("stay as they are")),
    ("hide", gettext_lazy("are hidden until a file has them again")),
    ("delete", gettext_lazy("are deleted")),
]


class UploadForm(forms.Form):
    """A file, and what shall be done with it."""

    import_file = forms.FileField(
        label=gettext_lazy("File"),
        help_text=gettext_lazy("CSV in UTF-8, with commas. Nothing is written before you have seen what would change."),
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
    )
    missing = forms.ChoiceField(
        label=gettext_lazy("Products that the file does not have"), choices=MISSING, initial="keep"
    )
    renamed = forms.CharField(
        label=gettext_lazy("Columns by another name"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 40, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "One a line, as for --map on the command line: ProductType=type. With nothing after the sign, the file has "
            "no such column."
        ),
    )

    def __init__(self, *args: Any, may_delete: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        if not may_delete:
            self.fields["missing"].choices = MISSING[:-1]  # type: ignore[attr-defined]

    def clean_import_file(self) -> UploadedFile[Any]:
        upload: UploadedFile[Any] = self.cleaned_data["import_file"]
        if (upload.size or 0) > pending.MOST_BYTES:
            said = _("The file is larger than %(limit)s. On the command line: python manage.py import_fashion FILE")
            raise forms.ValidationError(said % {"limit": filesizeformat(pending.MOST_BYTES)})
        return upload

    def clean_renamed(self) -> dict[str, str]:
        renamed = {}
        for line in filter(str.strip, self.cleaned_data["renamed"].splitlines()):
            ours, sign, theirs = (part.strip() for part in line.partition("="))
            if not sign or not ours:
                raise forms.ValidationError(_("%(line)s is not of the form ProductType=type."), params={"line": line})
            renamed[ours] = theirs
        return renamed


@dataclass(frozen=True)
class Preview:
    """What the page shows of a file before it is imported."""

    upload: Pending
    report: ImportReport
    plan: Plan

    @property
    def anything(self) -> bool:
        """Whether there is something to confirm."""
        return bool(self.report.created or self.report.updated or self.report.missing)

    @property
    def columns(self) -> list[tuple[str, int]]:
        return self.plan.columns.most_common()


class CatalogueFilesMixin(ImportExportMixin):  # type: ignore[misc]  # untyped there
    """Buttons to import and export, for the admin of products."""

    import_export_change_list_template = "admin/catalog/product/change_list_files.html"
    import_template_name = "admin/catalog/product/import.html"
    skip_export_form = True

    def has_import_permission(self, request: HttpRequest) -> bool:
        allowed: bool = self.has_add_permission(request) and self.has_change_permission(request)
        return allowed

    def has_export_permission(self, request: HttpRequest) -> bool:
        allowed: bool = self.has_view_permission(request)
        return allowed

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        runs = self.admin_site.get_model_admin(ImportRun)
        more = {"has_runs_permission": runs.has_view_permission(request)}
        response: HttpResponse = super().changelist_view(request, {**(extra_context or {}), **more})
        return response

    # --- import -------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        guarded: Any = self.admin_site.admin_view(self.pending_rejects_view)
        mine: URLPattern = path("import/<str:token>/rejects.csv", guarded, name="catalog_product_import_rejects")
        return [mine, *super().get_urls()]

    def pending_rejects_view(self, request: HttpRequest, token: str) -> FileResponse:
        """The rows that an import would reject, to be put right before it."""
        if not self.has_import_permission(request):
            raise PermissionDenied
        upload = pending.find(token, _user_key(request))
        if upload is None or not upload.rejects.is_file():
            raise Http404
        return rejects_response(upload.rejects, "rejects.csv")

    def import_action(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """The form, and for a file that was sent what it would change."""
        if not self.has_import_permission(request):
            raise PermissionDenied
        sent = request.method == "POST"
        form = UploadForm(
            request.POST if sent else None,
            request.FILES if sent else None,
            may_delete=self.has_delete_permission(request),
        )
        preview = None
        if form.is_valid():
            try:
                preview = _preview(form.cleaned_data, _user_key(request))
            except (CatalogueFileError, ImportRefusedError) as error:
                form.add_error("import_file", str(error))
        context = {
            **self.admin_site.each_context(request),
            "title": _("What the import would change") if preview else _("Import products"),
            "opts": self.opts,
            "form": form,
            "media": self.media,
            "preview": preview,
            "shown": SHOWN,
            "columns": list(FIELD_OF),
        }
        return TemplateResponse(request, [self.import_template_name], context)

    @method_decorator(require_POST)
    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Import what was confirmed, if it still means what the preview said."""
        if not self.has_import_permission(request):
            raise PermissionDenied
        upload = pending.find(request.POST.get("token", ""), _user_key(request))
        if upload is None:
            said = _("This upload is no longer kept, or was imported already. Nothing was imported now.")
            self.message_user(request, said, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:catalog_product_import"))
        if upload.missing == "delete" and not self.has_delete_permission(request):
            raise PermissionDenied
        try:
            report = import_catalogue(upload.options(who=request.user.get_username()))
        except OutcomeChangedError:
            said = _(
                "The catalogue has changed since the preview, and the file would now change something else than was "
                "shown. Nothing was imported: choose the file again to see what it means now."
            )
            self.message_user(request, said, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:catalog_product_import"))
        except (CatalogueFileError, ImportRefusedError, DatabaseError) as error:
            nothing = _("Nothing was imported.")
            self.message_user(request, f"{error} {nothing}", messages.ERROR)
            return HttpResponseRedirect(reverse("admin:catalog_product_import"))
        finally:
            upload.remove()
        self._tell(request, report)
        return HttpResponseRedirect(reverse("admin:catalog_importrun_changelist"))

    def _tell(self, request: HttpRequest, report: ImportReport) -> None:
        run = report.run
        assert run is not None
        said = ngettext(
            "Imported %(name)s, %(rows)d row: %(created)d created, %(updated)d changed, %(unchanged)d unchanged, "
            "%(rejected)d rejected.",
            "Imported %(name)s, %(rows)d rows: %(created)d created, %(updated)d changed, %(unchanged)d unchanged, "
            "%(rejected)d rejected.",
            report.rows,
        ) % {"name": run.file_name, **{name: getattr(report, name) for name in _COUNTED}}
        # One line for the import: one for each of a hundred thousand products would bury every other.
        user: Any = request.user.pk
        LogEntry.objects.log_actions(user, [run], ADDITION, said, single_object=True)
        self.message_user(request, said, messages.SUCCESS)

    # --- export -------------------------------------------------------------------------------
    def export_action(self, request: HttpRequest) -> HttpResponse:
        """What the list shows, with its search and filters."""
        try:
            response: HttpResponse = super().export_action(request)
        except IncorrectLookupParameters:  # the list itself answers so
            return HttpResponseRedirect(reverse("admin:catalog_product_changelist") + "?e=1")
        return response

    def _do_file_export(
        self, file_format: Any, request: HttpRequest, queryset: QuerySet[Product], export_form: Any = None
    ) -> StreamingHttpResponse:
        if not self.has_export_permission(request):
            raise PermissionDenied
        name = f"products-{timezone.localdate():%Y-%m-%d}.csv"
        return StreamingHttpResponse(
            _chunks(catalogue_lines(queryset, spreadsheet=True)),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


_COUNTED = ("rows", "created", "updated", "unchanged", "rejected")


def _preview(chosen: dict[str, Any], user: int) -> Preview:
    """Store the upload and try the import. Raises CatalogueFileError or ImportRefusedError."""
    file: UploadedFile[Any] = chosen["import_file"]
    upload = Pending(file.name or "-", user, chosen["missing"], chosen["renamed"])
    try:
        upload.store(file.chunks())
        plan = Plan(sha256_of(upload.path))
        options: ImportOptions = upload.options(dry_run=True, rejects_shown=SHOWN)
        report = import_catalogue(options, plan=plan)
        upload = replace(upload, agreed=plan.digest())
        upload.note()
    except BaseException:
        upload.remove()
        raise
    return Preview(upload, report, plan)


def _chunks(lines: Iterator[str]) -> Iterator[bytes]:
    """Some lines at once: each piece costs a server some work of its own."""
    while some := "".join(islice(lines, _LINES_A_CHUNK)):
        yield some.encode()


def _user_key(request: HttpRequest) -> int:
    key: Any = request.user.pk  # not None: nobody comes here without logging in
    return int(key)

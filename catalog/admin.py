"""Looking after products by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from catalog import admin_keys, images  # noqa: F401  (admin_keys registers itself)
from catalog.admin_files import CatalogueFilesMixin
from catalog.columnar import Columns, get_columns
from catalog.columns import ATTRIBUTES
from catalog.decoding import MAX_BYTES
from catalog.importing.refetch import MOST, refetch
from catalog.models import Product

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile

    ProductModelForm = forms.ModelForm[Product]
    ProductModelAdmin = admin.ModelAdmin[Product]
else:  # generic for the type checker only
    ProductModelForm, ProductModelAdmin = forms.ModelForm, admin.ModelAdmin

_LIST_THUMBNAIL_PX = 72
_PREVIEW_PX = 480


class PictureStateFilter(admin.SimpleListFilter):
    """Products by what is known of their picture."""

    title = _("picture")
    parameter_name = "picture"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("ok", _("in place")), ("failed", _("failed")), ("none", _("none"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        match self.value():
            case "ok":
                return queryset.filter(embedding_row__isnull=False, image_error="")
            case "failed":
                return queryset.exclude(image_error="")
            case "none":
                return queryset.filter(embedding_row__isnull=True, image_error="")
        return queryset


class VisibilityFilter(admin.SimpleListFilter):
    """Products that visitors see, and why they do not see the others."""

    title = _("visibility")
    parameter_name = "visible"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("shown")), ("hidden", _("hidden by hand")), ("missing", _("missing in the file"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        match self.value():
            case "yes":
                return queryset.filter(hidden=False, missing_since=None)
            case "hidden":
                return queryset.filter(hidden=True)
            case "missing":
                return queryset.exclude(missing_since=None)
        return queryset


class ValuesInUseFilter(admin.AllValuesFieldListFilter):
    """An attribute's values from the catalogue's columns: the database would read its whole table for each of them."""

    def __init__(self, field: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(field, request, *args, **kwargs)
        columns: Columns = request.META.get("vitrine.columns") or get_columns()
        request.META["vitrine.columns"] = columns  # once for the filters of a page
        in_use = columns.kept(("values in use", self.field_path), lambda: self._values(columns))
        self.lookup_choices: Any = sorted(in_use)

    def _values(self, columns: Columns) -> list[str]:
        used = np.bincount(columns.codes[self.field_path], minlength=1).tolist()
        return [value for value, count in zip(columns.values[self.field_path], used, strict=False) if count]


class ProductForm(ProductModelForm):
    """A product and, where one is chosen, its new picture."""

    new_picture = forms.FileField(
        label=_("new picture"),
        required=False,
        help_text=_("JPEG, PNG, WebP or GIF, at most 10 MiB and 25 megapixels. Imports leave it in place."),
        widget=forms.FileInput(attrs={"accept": "image/jpeg,image/png,image/webp,image/gif"}),
    )

    class Meta:
        model = Product
        fields = [
            "product_id",
            "title",
            *ATTRIBUTES,
            "hidden",
            "image_name",
            "image_url",
        ]

    verified: images.VerifiedImage | None = None

    def clean_product_id(self) -> str:
        product_id: str = self.cleaned_data["product_id"]
        if any(segment in ("", ".", "..") for segment in product_id.split("/")):
            raise forms.ValidationError(
                _("It becomes part of an address: no '/' at its ends, no '//', no '.' or '..' between slashes.")
            )
        return product_id

    def clean_new_picture(self) -> None:
        upload: UploadedFile[Any] | None = self.cleaned_data["new_picture"]
        if upload is None:
            return
        try:
            self.verified = images.verify(upload.read(MAX_BYTES + 1))
        except images.ImageError as error:
            raise forms.ValidationError(str(error)) from error


@admin.register(Product)
class ProductAdmin(CatalogueFilesMixin, ProductModelAdmin):
    form = ProductForm
    list_display = [
        "list_thumbnail",
        "product_id",
        "title",
        "product_type",
        "colour",
        "picture_state",
        "shown",
    ]
    list_display_links = ["list_thumbnail", "product_id", "title"]
    list_filter = [
        PictureStateFilter,
        VisibilityFilter,
        *((name, ValuesInUseFilter) for name in ATTRIBUTES),
    ]
    search_fields = ["product_id", "title"]
    search_help_text = _("Words of the title, or an id")
    ordering = ["pk"]
    list_per_page = 50
    list_max_show_all = 0
    # Counting the whole table again beside every filtered list costs a scan and tells nobody anything.
    show_full_result_count = False
    actions = ["hide", "show", "embed_anew", "fetch_again", "export_selected"]
    readonly_fields = [
        "preview",
        "picture_state",
        "further_columns",
        "image_size",
        "image_sha256",
        "image_source",
        "embedding_row",
        "missing_since",
        "created_at",
        "updated_at",
    ]
    fieldsets = [
        (None, {"fields": ["product_id", "title", "hidden"]}),
        (_("Attributes"), {"fields": [*ATTRIBUTES]}),
        (_("Picture"), {"fields": ["preview", "picture_state", "new_picture", "image_name", "image_url"]}),
        (_("Further columns of the file"), {"fields": ["further_columns"]}),
        (
            _("Technical"),
            {
                "classes": ["collapse"],
                "fields": [
                    "image_size",
                    "image_sha256",
                    "image_source",
                    "embedding_row",
                    "missing_since",
                    "created_at",
                    "updated_at",
                ],
            },
        ),
    ]

    def save_model(self, request: HttpRequest, obj: Product, form: Any, change: bool) -> None:
        if change and {"image_name", "image_url"} & set(form.changed_data):
            # Another picture is named: the next import shall look for it.
            obj.image_source = ""
        super().save_model(request, obj, form, change)
        verified = form.verified
        if verified is not None:
            source = f"{images.BY_HAND}{verified.sha256}"
            images.accept([images.Acceptance(obj.pk, images.store(verified), source)])
            obj.refresh_from_db()

    @admin.display(description=_("picture"))
    def list_thumbnail(self, product: Product) -> SafeString | str:
        return _picture(product, _LIST_THUMBNAIL_PX, product.title) or "–"

    @admin.display(description=_("preview"))
    def preview(self, product: Product) -> SafeString | str:
        small = _picture(product, _PREVIEW_PX, product.title)
        return format_html('<a href="{}">{}</a>', product.image.url, small) if small else "–"

    @admin.display(description=_("picture's state"))
    def picture_state(self, product: Product) -> str:
        if product.image_error and product.image:
            return str(_("the former one; the new one failed: %s") % product.image_error)
        if product.image_error:
            return str(_("failed: %s") % product.image_error)
        return str(_("in place")) if product.image else str(_("none"))

    @admin.display(description=_("shown"), boolean=True)
    def shown(self, product: Product) -> bool:
        return product.is_visible

    @admin.display(description=_("size"))
    def image_size(self, product: Product) -> str:
        return f"{product.image_width} × {product.image_height}" if product.image else "–"

    @admin.display(description=_("values"))
    def further_columns(self, product: Product) -> SafeString | str:
        if not product.extra:
            return "–"
        rows = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td></tr>', product.extra.items())
        return format_html("<table>{}</table>", rows)

    @admin.action(description=_("Hide the selected products"), permissions=["change"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        self._set_hidden(request, queryset, hidden=True)

    @admin.action(description=_("Show the selected products"), permissions=["change"])
    def show(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        self._set_hidden(request, queryset, hidden=False)

    def _set_hidden(self, request: HttpRequest, queryset: QuerySet[Product], *, hidden: bool) -> None:
        changing = queryset.filter(~Q(hidden=hidden))
        with transaction.atomic():
            self._log(request, changing, "Hidden." if hidden else "Shown again.")
            count = changing.update(hidden=hidden)
        sentence = (
            ngettext("%d product is hidden now.", "%d products are hidden now.", count)
            if hidden
            else ngettext("%d product is shown again.", "%d products are shown again.", count)
        )
        self.message_user(request, sentence % count)

    @admin.action(description=_("Embed the pictures of the selected products anew"), permissions=["change"])
    def embed_anew(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        renewed = queryset.filter(embedding_row__isnull=False)
        with transaction.atomic():
            self._log(request, renewed, "Its picture will be embedded anew.")
            count = images.renew_rows(renewed)
        sentence = ngettext(
            "%d picture is embedded anew in the background; until that is done, nothing is compared with it.",
            "%d pictures are embedded anew in the background; until that is done, nothing is compared with them.",
            count,
        )
        self.message_user(request, sentence % count)

    @admin.action(
        description=_("Fetch the pictures of the selected products again (at most %d)") % MOST, permissions=["change"]
    )
    def fetch_again(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        products = list(queryset[: MOST + 1])
        if len(products) > MOST:
            said = gettext("At most %d pictures are fetched at once. For more: import_fashion --download --refetch.")
            self.message_user(request, said % MOST, messages.ERROR)
            return
        for each in refetch(products):
            if each.trouble:
                self.message_user(request, f"{each.product}: {each.trouble}", messages.WARNING)
                continue
            said = gettext("the picture was fetched and is another one now.")
            if not each.changed:
                said = gettext("the picture was fetched and is the same.")
            self.log_change(request, each.product, said[0].upper() + said[1:])
            self.message_user(request, f"{each.product}: {said}", messages.SUCCESS)

    @admin.action(description=_("Export the selected products as CSV"), permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Product]) -> StreamingHttpResponse:
        return self._do_file_export(None, request, queryset)

    def _log(self, request: HttpRequest, products: QuerySet[Product], message: str) -> None:
        """A line in the history of each."""
        few = products.only("product_id", "title")
        if few.exists():
            user: Any = request.user.pk  # not None: nobody comes here without logging in
            LogEntry.objects.log_actions(user, few, CHANGE, message)


def _picture(product: Product, side_px: int, alt: str) -> SafeString | None:
    """The thumbnail, scaled by attributes: the site's policy allows no inline style."""
    if not product.thumbnail:
        return None
    width, height = product.thumbnail_size
    scale = min(1.0, side_px / max(width, height, 1))
    return format_html(
        '<img src="{}" width="{}" height="{}" alt="{}" loading="lazy" decoding="async">',
        product.thumbnail.url,
        round(width * scale),
        round(height * scale),
        alt,
    )

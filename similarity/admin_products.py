"""The admin's page of a product, with its panel of similar items and what the shop has chosen for it.

The catalogue registers products without it; here its admin is replaced by one that knows of similarity too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from catalog.admin import ProductAdmin
from similarity import curating, products
from similarity.admin_pages import may
from similarity.forms import PAGE_REFINEMENT
from similarity.models import Curation
from similarity.products import Product
from similarity.services import Answer, SimilarityUnavailable, similar_to

if TYPE_CHECKING:
    CurationTabularInline = admin.TabularInline[Curation, Product]
else:  # generic for the type checker only
    CurationTabularInline = admin.TabularInline


class CurationInline(CurationTabularInline):
    """What was chosen for the product's panel; the permissions are those on the product."""

    model = Curation
    fk_name = "product"
    autocomplete_fields = ["other"]
    fields = ["other", "kind", "position"]
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Curation]:
        return super().get_queryset(request).select_related("other")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "view") or may(request, "change")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "change")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "change")


admin.site.unregister(Product)


@admin.register(Product)
class CuratedProductAdmin(ProductAdmin):
    """Products, each with its panel as visitors see it and buttons to pin and hide what stands there."""

    change_form_template = "admin/similarity/product_change_form.html"

    def get_urls(self) -> list[URLPattern]:
        guarded: Any = self.admin_site.admin_view(self.curate_view)
        return [path("<path:object_id>/curate/", guarded, name="catalog_product_curate"), *super().get_urls()]

    def get_inlines(self, request: HttpRequest, obj: Product | None) -> list[Any]:
        return [*super().get_inlines(request, obj), *([CurationInline] if obj else [])]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        product = self.get_object(request, object_id)
        preview = _preview(product) if product and self.has_view_or_change_permission(request, product) else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **preview})

    @method_decorator(require_POST)
    def curate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """`pin`, `hide` or `undo`: what the button that was pressed is called; its value is the other product's id."""
        product = self.get_object(request, object_id)
        if not self.has_change_permission(request, product):
            raise PermissionDenied
        if product is None:
            raise Http404
        for name, (choose, said) in _CHOICES.items():
            if name in request.POST:
                self._choose(request, product, request.POST[name], choose, said)
        return HttpResponseRedirect(reverse("admin:catalog_product_change", args=[product.pk]) + "#similar")

    def _choose(self, request: HttpRequest, product: Product, other_id: str, choose: Any, said: Any) -> None:
        other = products.get_product(other_id)
        if other is None or other == product:
            self.message_user(request, _("Nothing was changed: there is no such other product."), messages.ERROR)
            return
        choose(product, other)
        sentence = str(said) % {"other": other}
        self.log_change(request, product, sentence)
        self.message_user(request, sentence, messages.SUCCESS)


_CHOICES = {
    "pin": (curating.pin, gettext_lazy("Pinned to the panel of similar items: %(other)s.")),
    "hide": (curating.hide, gettext_lazy("Hidden from the panel of similar items: %(other)s.")),
    "undo": (curating.undo, gettext_lazy("Neither pinned nor hidden in the panel of similar items: %(other)s.")),
}


def _preview(product: Product) -> dict[str, Any]:
    """The panel as the product's page shows it, what is hidden from it, and why it is empty where it cannot be had."""
    answer, trouble = Answer(product.product_id, (), {}), ""
    try:
        answer = similar_to(product, refinement=PAGE_REFINEMENT)
    except SimilarityUnavailable as error:
        trouble = str(error)
    return {"similar": answer, "similar_trouble": trouble, "similar_hidden": curating.choices_for(product).hidden}

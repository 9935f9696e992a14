"""The admin's page of duplicates: products that show the same side by side, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from similarity import products
from similarity.admin_pages import ProductsPageAdmin
from similarity.duplicates import MAX_PRODUCTS, Duplicates, find_duplicates, tell_apart
from similarity.models import Duplicate
from similarity.products import Product

GROUPS_A_PAGE = 20
SHOWN_OF_A_GROUP = 12
"""More do not fit side by side; the others come when these are decided."""


@dataclass(frozen=True)
class ShownGroup:
    """A group as the page shows it: products, and label → whether they differ in it; `more` are not shown."""

    members: list[Product]
    labels: dict[str, bool]
    exact: bool
    more: int

    @property
    def rows(self) -> list[tuple[Product, list[tuple[str, str, bool]]]]:
        """Each product with its labels: (name, value, whether the others' differ)."""
        return [
            (product, [(products.label_name(each), getattr(product, each), self.labels[each]) for each in self.labels])
            for product in self.members
        ]


@admin.register(Duplicate)
class DuplicateAdmin(ProductsPageAdmin):
    """Groups of duplicates, exact copies first."""

    def get_urls(self) -> list[URLPattern]:
        return [*super().get_urls(), self._path("decide/", self.decide_view, "decide")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._refuse_without(self.has_view_permission(request))
        duplicates = find_duplicates()
        page = Paginator(duplicates.groups, GROUPS_A_PAGE).get_page(request.GET.get("p"))
        return self._page(
            request,
            page=page,
            page_range=page.paginator.get_elided_page_range(page.number),
            shown=_shown(page.object_list),
            trouble=_in_words(duplicates),
        )

    @method_decorator(require_POST)
    def decide_view(self, request: HttpRequest) -> HttpResponse:
        """Of the products `of`: `keep` one and hide the others, `hide` one, or tell them all `apart`.

        Nothing is done where one of them is gone or hidden by now: what was decided may no longer be meant.
        """
        self._refuse_without(self.has_change_permission(request))
        ids = list(dict.fromkeys(request.POST.getlist("of")))[:SHOWN_OF_A_GROUP]
        known = products.visible_by_id(ids)
        members = [known[each] for each in ids if each in known]
        kept, hidden = known.get(request.POST.get("keep", "")), known.get(request.POST.get("hide", ""))
        if len(members) < max(2, len(ids)) or not (kept or hidden or "apart" in request.POST):
            self.message_user(request, _("Nothing was changed: the products are no longer as shown."), messages.ERROR)
        elif kept:
            self._hide(request, [each for each in members if each != kept], _("Hidden as a duplicate of %s.") % kept)
        elif hidden:
            self._hide(request, [hidden], _("Hidden as a duplicate."))
        else:
            self._tell_apart(request, members)
        return self._back(request)

    def _hide(self, request: HttpRequest, some: list[Product], message: str) -> None:
        products.hide(some)
        for product in some:
            self.log_change(request, product, message)
        said = ngettext("%d product is hidden now.", "%d products are hidden now.", len(some)) % len(some)
        self.message_user(request, said, messages.SUCCESS)

    def _tell_apart(self, request: HttpRequest, members: list[Product]) -> None:
        tell_apart(members)
        for product in members:
            others = ", ".join(each.product_id for each in members if each != product)
            self.log_change(request, product, _("Not a duplicate of %s.") % others)
        said = _("%d products are no duplicates of each other: they do not come again, and pages show each of them.")
        self.message_user(request, said % len(members), messages.SUCCESS)


def _shown(groups: Any) -> list[ShownGroup]:
    """With one query; a product that was hidden a moment ago is passed over."""
    found = products.visible_by_id([each for group in groups for each in group[:SHOWN_OF_A_GROUP]])
    shown = []
    for group in groups:
        members = [found[each] for each in group[:SHOWN_OF_A_GROUP] if each in found]
        if len(members) > 1:
            labels = {label: len({getattr(each, label) for each in members}) > 1 for label in products.LABELS}
            exact = len({each.image_sha256 for each in members}) == 1
            shown.append(ShownGroup(members, labels, exact, max(0, len(group) - SHOWN_OF_A_GROUP)))
    return shown


def _in_words(duplicates: Duplicates) -> str:
    """Why there may be more than the page shows."""
    if duplicates.trouble == "many":
        said = _(
            "%(count)d products are shown with a picture. Near copies are looked for among at most %(limit)d; "
            "here are exact copies only, of at most as many products."
        )
        return said % {"count": duplicates.count, "limit": MAX_PRODUCTS}
    if duplicates.trouble == "unavailable":
        return _("No index answers, so that only exact copies are found. Run: python manage.py build_index")
    return ""

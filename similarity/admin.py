"""Pages of the admin: the builds of the index side by side, and the labels in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from similarity import admin_duplicates, admin_products, products, tasks  # noqa: F401  (they register themselves)
from similarity.admin_pages import PageAdmin, ProductsPageAdmin
from similarity.builds import BuildError, Manifest
from similarity.comparing import compare
from similarity.doubts import Doubt, label_doubts
from similarity.models import IndexBuild, LabelDoubt
from similarity.products import Product
from similarity.publishing import roll_back, stored_builds, use_build
from similarity.services import SimilarityUnavailable, index_status, live_index
from similarity.serving import serving_error

DOUBTS_A_PAGE = 20
MAX_PRODUCTS_WITH_DOUBTS = 5000
"""Every product is compared with every other one: 1 s for 2,000 products, 8 s for 5,000, and the square of it on."""
SHOWN_NEIGHBOURS = 6


@admin.register(IndexBuild)
class IndexBuildAdmin(PageAdmin):
    """The stored builds; switching asks for the permission to change them."""

    def get_urls(self) -> list[URLPattern]:
        return [
            *super().get_urls(),
            self._path("switch/", self.switch_view, "switch"),
            self._path("build/", self.build_view, "build"),
            self._path("work/", self.work_view, "work"),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._refuse_without(self.has_view_permission(request))
        builds = stored_builds()
        comparison = compare(builds)
        return self._page(
            request,
            builds=builds,
            current=next((build for build in builds if build.current), None),
            former=next((build for build in builds if build.former), None),
            judged=comparison.judged,
            figures=[(_in_words(label), row) for label, row in comparison.figures.items()],
            trouble=serving_error(),
            status=index_status(),
            **_work(),
        )

    def work_view(self, request: HttpRequest) -> HttpResponse:
        """What the background is at: a part of the page, asked for again and again while there is something to see."""
        self._refuse_without(self.has_view_permission(request))
        context = _work()
        response = render(request, "admin/similarity/indexbuild/_work.html", context)
        if not context["is_busy"]:
            response["HX-Refresh"] = "true"  # there may be another build to show now
        return response

    @method_decorator(require_POST)
    def build_view(self, request: HttpRequest) -> HttpResponse:
        """Embed and build in the background."""
        self._refuse_without(self.has_change_permission(request))
        tasks.build_soon()
        if tasks.is_anybody_working():
            self.message_user(request, _("The background is at it; this page shows how far it is."), messages.SUCCESS)
        else:
            self.message_user(request, _("It waits for a worker: none is running."), messages.WARNING)
        return self._back(request)

    @method_decorator(require_POST)
    def switch_view(self, request: HttpRequest) -> HttpResponse:
        """Publish the `build` named, or else the former one; refused where `current` is no longer current."""
        self._refuse_without(self.has_change_permission(request))
        wanted, current = request.POST.get("build", ""), request.POST.get("current") or None
        try:
            manifest = use_build(wanted, current) if wanted else roll_back(current)
        except (BuildError, OSError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return self._back(request)
        self._note(request, manifest, current)
        return self._back(request)

    def _note(self, request: HttpRequest, manifest: Manifest, before: str | None) -> None:
        build = IndexBuild(id=manifest.id, name=manifest.name)
        self.log_change(request, build, f"Published instead of {before or 'none'}.")
        said = _(
            "Build %(build)s answers now: %(looks)d looks of %(model)s. Running servers notice at their next question."
        )
        self.message_user(
            request, said % {"build": build, "looks": manifest.count, "model": manifest.model}, messages.SUCCESS
        )


def _work() -> dict[str, Any]:
    """What the page says of the background."""
    works = tasks.recent()
    return {
        "works": works,
        "is_busy": any(work.is_open for work in works),
        "is_anybody_working": tasks.is_anybody_working(),
    }


@dataclass(frozen=True)
class ShownDoubt:
    """A doubt with the products that the page shows of it."""

    doubt: Doubt
    product: Product
    neighbours: list[Product]
    label: str


@admin.register(LabelDoubt)
class LabelDoubtAdmin(ProductsPageAdmin):
    """The labels in doubt, the worst first."""

    def get_urls(self) -> list[URLPattern]:
        return [*super().get_urls(), self._path("accept/", self.accept_view, "accept")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._refuse_without(self.has_view_permission(request))
        chosen = request.GET.get("label", "")
        labels = [chosen] if chosen in products.LABELS else list(products.LABELS)
        doubts, trouble = _doubts(labels)
        page = Paginator(doubts, DOUBTS_A_PAGE).get_page(request.GET.get("p"))
        links = [(name, products.label_name(name), f"?{urlencode({'label': name})}") for name in products.LABELS]
        return self._page(
            request,
            page=page,
            page_range=page.paginator.get_elided_page_range(page.number),
            shown=_shown(page.object_list),
            trouble=trouble,
            chosen=chosen if labels == [chosen] else "",
            filters=[("", _("All"), "?"), *links],
        )

    @method_decorator(require_POST)
    def accept_view(self, request: HttpRequest) -> HttpResponse:
        """Give the product the label that its neighbours bear, if it still bears the one that was shown."""
        self._refuse_without(self.has_change_permission(request))
        product_id, label, value, suggestion = (
            request.POST.get(name, "") for name in ("product_id", "label", "value", "suggestion")
        )
        product = products.relabel(product_id, label, value, suggestion) if label in products.LABELS else None
        if product is None:
            self.message_user(request, _("Nothing was changed: the product is no longer as shown."), messages.ERROR)
            return self._back(request)
        said = {"label": products.label_name(label), "value": value, "suggestion": suggestion, "product": product}
        self.log_change(
            request, product, _("Changed %(label)s from %(value)s to %(suggestion)s, as its neighbours are.") % said
        )
        self.message_user(
            request, _("%(product)s: %(label)s is %(suggestion)s now, no longer %(value)s.") % said, messages.SUCCESS
        )
        return self._back(request)


def _doubts(labels: list[str]) -> tuple[list[Doubt], str]:
    """The doubts, and why there are none where they cannot be had."""
    try:
        count = live_index().count
        if count <= MAX_PRODUCTS_WITH_DOUBTS:
            return label_doubts(labels), ""
    except SimilarityUnavailable as error:
        return [], str(error)
    said = _(
        "The index holds %(count)d products; comparing each with every other one takes too long for a page "
        "(at most %(limit)d). On the command line: python manage.py label_doubts"
    )
    return [], said % {"count": count, "limit": MAX_PRODUCTS_WITH_DOUBTS}


def _shown(doubts: Any) -> list[ShownDoubt]:
    """With one query; a product that was hidden a moment ago is passed over."""
    ids = {each for doubt in doubts for each in (doubt.product_id, *doubt.neighbours[:SHOWN_NEIGHBOURS])}
    found = products.visible_by_id(list(ids))
    return [
        ShownDoubt(
            doubt,
            found[doubt.product_id],
            [found[each] for each in doubt.neighbours[:SHOWN_NEIGHBOURS] if each in found],
            products.label_name(doubt.label),
        )
        for doubt in doubts
        if doubt.product_id in found
    ]


def _in_words(labels: str) -> str:
    """A report's "product_type+gender" as people say it; what is no label of ours stays as it is."""
    return " + ".join(products.label_name(each) if each in products.LABELS else each for each in labels.split("+"))

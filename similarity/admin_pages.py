"""What the admin's pages have in common: one page in the place of a list of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from similarity.products import Product

if TYPE_CHECKING:
    PageModelAdmin = admin.ModelAdmin[Any]  # the log names products too
else:  # generic for the type checker only
    PageModelAdmin = admin.ModelAdmin


class PageAdmin(PageModelAdmin):
    """One page in the place of a list of rows; there are no rows to add, edit or delete."""

    def get_urls(self) -> list[URLPattern]:
        return [self._path("", self.changelist_view, "changelist")]

    def _path(self, route: str, view: Any, name: str) -> URLPattern:
        guarded: Any = self.admin_site.admin_view(view)
        pattern: URLPattern = path(route, guarded, name=f"similarity_{self.opts.model_name}_{name}")
        return pattern

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _page(self, request: HttpRequest, **context: Any) -> TemplateResponse:
        context |= {
            **self.admin_site.each_context(request),
            "title": str(self.opts.verbose_name_plural).capitalize(),
            "opts": self.opts,
            "may_change": self.has_change_permission(request),
        }
        template = f"admin/similarity/{self.opts.model_name}/change_list.html"
        return TemplateResponse(request, template, context)

    def _refuse_without(self, permitted: bool) -> None:
        if not permitted:
            raise PermissionDenied

    def _back(self, request: HttpRequest) -> HttpResponse:
        """To the list, at the place where the form stood."""
        where = reverse(f"admin:similarity_{self.opts.model_name}_changelist")
        return HttpResponseRedirect(f"{where}?{request.GET.urlencode()}" if request.GET else where)


class ProductsPageAdmin(PageAdmin):
    """A page about products: who may see or change them may see or use it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "view") or may(request, "change")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "change")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)


def may(request: HttpRequest, action: str) -> bool:
    """Whether the user has this permission ("view", "change") on products."""
    options = Product._meta
    return request.user.has_perm(f"{options.app_label}.{action}_{options.model_name}")

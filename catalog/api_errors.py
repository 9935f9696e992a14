"""Errors of the API as problem details (RFC 9457), those that Django would answer with a page included."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.urls import resolve, reverse
from django.utils.encoding import escape_uri_path
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    NotFound,
    ParseError,
    PermissionDenied,
    ValidationError,
)
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from catalog.metrics import refused

CONTENT_TYPE = "application/problem+json"

PROBLEMS: dict[str, tuple[int, Promise, Promise]] = {
    "invalid": (400, _("Something in the request makes no sense"), _("Its errors say what, one by one.")),
    "parse_error": (400, _("The request cannot be read"), _("Its body is not what its Content-Type says.")),
    "not_authenticated": (401, _("An API key is needed"), _("Send it as Authorization: Api-Key ….")),
    "authentication_failed": (401, _("The API key is unknown"), _("It may have been deleted, or cut off.")),
    "permission_denied": (
        403,
        _("The API key does not allow this"),
        _("It has been revoked, has expired, or is for other things."),
    ),
    "not_found": (
        404,
        _("There is nothing here"),
        _("No such address, or no such product; hidden ones count as none."),
    ),
    "method_not_allowed": (405, _("This method is not for this address"), _("Allow names those that are.")),
    "not_acceptable": (406, _("Nothing that Accept asks for"), _("Answers are JSON.")),
    "conflict": (
        409,
        _("This is not possible as things are now"),
        _("A product with the id is there already, or the index does not know a picture yet."),
    ),
    "precondition_failed": (
        412,
        _("It has changed in between"),
        _("If-Match names another version than the one here: get it again, and decide anew."),
    ),
    "too_large": (413, _("The request is too large"), _("JSON may have 2 MiB, a picture 10 MiB.")),
    "unsupported_media_type": (415, _("This Content-Type is not taken here"), _("The documentation names those.")),
    "throttled": (429, _("Too many requests"), _("Retry-After says after how many seconds to come back.")),
    "error": (500, _("Something went wrong here"), _("The fault is the shop's, whose log tells of it.")),
    "unavailable": (503, _("Similarity is not available right now"), _("Its reason is for whoever runs the shop.")),
    "no_room": (507, _("The shop's disk is full"), _("Nothing was changed. Try again later.")),
}
"""Code → status, title and what to do. A problem's `type` is the address that explains it."""


class TooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The request is too large.")
    default_code = "too_large"


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = _("This is not possible as things are now.")
    default_code = "conflict"


class PreconditionFailed(APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = _("It is no longer as the request's condition says.")
    default_code = "precondition_failed"


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The framework's answer as problem details. None where it knows none: `server_error` answers then.

    A view with `plain_errors` keeps the framework's own form.
    """
    error = _ours(error)
    response = exception_handler(error, context)
    if response is None or getattr(context["view"], "plain_errors", False):
        return response
    assert isinstance(error, APIException)
    request = context["request"]
    refused("request", error.default_code)
    body = problem(request, response.status_code, error.default_code, _detail(error))
    if isinstance(error, ValidationError):
        entries = list(_entries(error.detail))
        body["errors"] = [_entry(request, path, each) for path, each in entries]
        path, first = entries[0]
        body["detail"] = f"{'.'.join(path)}: {first}" if path else str(first)
    if reason := getattr(error, "reason", ""):
        body["reason"] = reason
    kept = {name: value for name, value in response.items() if name != "Content-Type"}
    return Response(
        body, response.status_code, headers={**kept, "Cache-Control": "no-store"}, content_type=CONTENT_TYPE
    )


def problem(request: HttpRequest, status: int, code: str, detail: str) -> dict[str, Any]:
    """The members that every problem has."""
    known = PROBLEMS.get(code)
    return {
        "type": request.build_absolute_uri(f"{reverse('api-problems')}#{code}") if known else "about:blank",
        "title": str(known[1]) if known else HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": escape_uri_path(request.path),
    }


def _ours(error: Exception) -> Exception:
    """What Django refuses, as errors of the API with words of their own."""
    if isinstance(error, RequestDataTooBig):
        return TooLarge()
    if isinstance(error, SuspiciousOperation):
        return ParseError(gettext("The request has too many fields, or is not what it says it is."))
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, DjangoPermissionDenied):
        return PermissionDenied()
    return error


def _detail(error: APIException) -> str:
    return str(error.detail) if isinstance(error.detail, str) else ""


def _entries(detail: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ErrorDetail]]:
    """(where, what) of everything that a ValidationError says."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _entries(inner, path if name == api_settings.NON_FIELD_ERRORS_KEY else (*path, str(name)))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _entries(inner, path)
    else:
        yield path, detail


def _entry(request: HttpRequest, path: tuple[str, ...], error: ErrorDetail) -> dict[str, str]:
    """A parameter of the address by its name, a part of the body by a JSON pointer, as in RFC 9457's own example."""
    if request.method in SAFE_METHODS:
        where = {"parameter": path[0]} if path else {}
    else:
        steps = (quote(step.replace("~", "~0").replace("/", "~1")) for step in path)
        where = {"pointer": "#" + "".join(f"/{step}" for step in steps)}
    return {**where, "code": error.code or "invalid", "detail": str(error)}


# --- what never reaches a view of the API ------------------------------------------------------
@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    """Every address below /api/ that is none. One that only lacks its last slash leads there, as everywhere else."""
    asked = request.path_info
    may_move = request.method in ("GET", "HEAD") and not asked.endswith("/")
    if may_move and resolve(f"{asked}/").func is not unknown:
        return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return answer(request, 404, "not_found", gettext("Not found."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: what it refuses before any view is asked."""
    if not is_of_the_api(request):
        return defaults.bad_request(request, exception)
    return answer(request, 400, "parse_error", gettext("The request is malformed."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500. What went wrong is in the log, and nowhere else."""
    if not is_of_the_api(request):
        return defaults.server_error(request)
    return answer(request, 500, "error", gettext("The request could not be answered."))


def is_of_the_api(request: HttpRequest) -> bool:
    """Whether a program asks, which expects problems and no pages."""
    return request.path_info.startswith("/api/")


def answer(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    """A problem, where no view of the API is there to raise it."""
    try:
        body = problem(request, status, code, detail)
    except SuspiciousOperation:  # a host that is not ours
        body = {"type": "about:blank", "title": str(PROBLEMS[code][1]), "status": status, "detail": detail}
        body["instance"] = escape_uri_path(request.path)
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

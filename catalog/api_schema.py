"""The API's document: what many operations share is said once, here."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.permissions import SAFE_METHODS

from catalog.api_caching import Cacheable
from catalog.api_errors import CONTENT_TYPE, PROBLEMS
from catalog.api_keys import Keyed

KEY = "ApiKey"

_ERROR = {
    "type": "object",
    "required": ["code", "detail"],
    "properties": {
        "parameter": {"type": "string", "description": "The parameter of the address that is wrong."},
        "pointer": {"type": "string", "description": "What of the body is wrong, as a JSON pointer: `#/title`."},
        "code": {"type": "string", "description": "For programs: the same in every language."},
        "detail": {"type": "string"},
    },
}
_PROBLEM = {
    "type": "object",
    "description": "Why a request was not answered (RFC 9457). Texts come in English or Portuguese (Accept-Language).",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "The kind of problem: an address that explains it.",
        },
        "title": {"type": "string", "description": "The kind in a few words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong with this request."},
        "instance": {"type": "string", "format": "uri-reference", "description": "The address that was asked."},
        "errors": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/ProblemError"},
            "description": "Everything that is wrong with what was sent, where that can be told.",
        },
        "reason": {"type": "string", "description": "For whoever runs the shop, in English."},
    },
}
_EXAMPLE = {
    "type": "https://shop.example/api/problems/#invalid",
    "title": "Something in the request makes no sense",
    "status": 400,
    "detail": "k: Ensure this value is greater than or equal to 1.",
    "instance": "/api/v1/products/42419/similar/",
    "errors": [{"parameter": "k", "code": "min_value", "detail": "Ensure this value is greater than or equal to 1."}],
}


class ApiSchema(AutoSchema):
    """Problems by reference, keys, conditional requests. A view names the codes of its own problems only."""

    def get_auth(self) -> list[dict[str, list[str]]]:
        if not isinstance(self.view, Keyed):
            return []
        key: dict[str, list[str]] = {KEY: []}
        if self.method not in self.view.open_to_all:
            return [key]
        return [{}, key] if self.view.knows_keys_when_open else []

    def get_override_parameters(self) -> list[Any]:
        parameters = [*super().get_override_parameters()]
        if self._is_cacheable:
            parameters += [
                _header("If-None-Match", "The ETag of an answer that is known already."),
                _header("ETag", "Of the answer's content.", [200, 304]),
                _header("Cache-Control", "For how long nobody has to ask again.", [200, 304]),
            ]
        if self._is_conditional_write:
            parameters += [
                _header("If-Match", "The product's ETag: write only if it is still as it was got."),
                _header("ETag", "The product's, as it is now.", [200, 201]),
            ]
        return parameters

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        if getattr(self.view, "plain_errors", False):
            return bodies
        if self._is_cacheable:
            headers = self._get_response_headers_for_code("304", direction)
            bodies["304"] = {"headers": headers, "description": "It is still what If-None-Match names."}
        problems = {code for code in bodies if code >= "400"} | {str(code) for code in self._usual_problems()}
        named = {code: {"$ref": f"#/components/responses/{_name(int(code))}"} for code in problems}
        return dict(sorted({**bodies, **named}.items()))

    def _usual_problems(self) -> set[int]:
        found = {406}
        if any(parameter["in"] == "query" for parameter in self._get_parameters()):
            found.add(400)
        if self.method not in ("GET", "DELETE"):
            found |= {400, 413, 415}
        if self.view.throttle_classes:
            found.add(429)
        if self.get_auth():
            found |= {401, 403}
        if self._is_conditional_write:
            found.add(412)
        return found

    @property
    def _is_cacheable(self) -> bool:
        return self.method == "GET" and isinstance(self.view, Cacheable)

    @property
    def _is_conditional_write(self) -> bool:
        return self.method not in SAFE_METHODS and getattr(self.view, "has_conditional_writes", False)


def add_components(result: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The problems and the key that operations refer to."""
    components = result["components"]
    components["schemas"] |= {"Problem": _PROBLEM, "ProblemError": _ERROR}
    components["securitySchemes"] = {
        KEY: {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Api-Key <key>`; the shop makes keys in its administration.",
        }
    }
    components["responses"] = {_name(code): _response(code) for code, _title, _help in PROBLEMS.values()}
    return result


def _header(name: str, description: str, response: list[int] | bool = False) -> OpenApiParameter:
    return OpenApiParameter(
        name,
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description=description,
        required=bool(response) and name == "ETag",
        response=response,
    )


def _name(code: int) -> str:
    return HTTPStatus(code).phrase.title().replace(" ", "")


def _response(code: int) -> dict[str, Any]:
    titles = ". ".join(str(title) for status, title, _help in PROBLEMS.values() if status == code)
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if code == _EXAMPLE["status"]:
        content["example"] = _EXAMPLE
    return {"description": f"{titles}.", "content": {CONTENT_TYPE: content}}

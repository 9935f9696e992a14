"""Errors of the API: problem details, in two languages, whatever went wrong and wherever."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils.html import escape

from catalog import api
from catalog.api_errors import PROBLEMS
from catalog.models import Product
from tests.problems import problem_of

Add = Callable[..., Product]


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda client: client.get("/api/v1/products/nobody/"), 404, "not_found"),
        (lambda client: client.get("/api/v1/nonsense/"), 404, "not_found"),
        (lambda client: client.get("/api/v1/nonsense"), 404, "not_found"),
        (lambda client: client.get("/api/"), 404, "not_found"),
        (lambda client: client.post("/api/v1/products"), 404, "not_found"),
        (lambda client: client.get("/api/v1/products/a%00b/"), 404, "not_found"),
        (lambda client: client.get("/api/v1/a%0Ab/"), 404, "not_found"),
        (lambda client: client.delete("/api/v1/index/"), 405, "method_not_allowed"),
        (lambda client: client.get("/api/v1/products/", headers={"accept": "text/html"}), 406, "not_acceptable"),
        (lambda client: client.post("/api/v1/similar/", "a=b", "text/plain"), 415, "unsupported_media_type"),
        (lambda client: client.post("/api/v1/similar/", "{", "application/json"), 400, "parse_error"),
        (lambda client: client.post("/api/v1/similar/", "[" * 200_000, "application/json"), 400, "parse_error"),
        (lambda client: client.post("/api/v1/similar/", " " * 3_000_000, "application/json"), 413, "too_large"),
        (lambda client: client.post("/api/v1/products/", "{}", "application/json"), 401, "not_authenticated"),
        (lambda client: client.get("/api/v1/products/1/similar/"), 503, "unavailable"),
        (lambda client: client.get("/api/v1/products/?sort=x"), 400, "invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_error_is_a_problem(client: Client, add: Add, ask: Any, status: int, code: str) -> None:
    add("1", shown=True)
    answer = ask(client)
    problem = problem_of(answer, status)
    assert problem["type"] == f"http://testserver/api/problems/#{code}"
    assert problem["instance"].startswith("/api/")


def test_what_else_belongs_to_an_error_is_there_too(client: Client, db: None) -> None:
    assert client.delete("/api/v1/index/").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.post("/api/v1/products/").headers["WWW-Authenticate"].startswith("Api-Key")


def test_whoever_asks_for_the_methods_is_told(client: Client, db: None) -> None:
    for path in ("/api/v1/products/", "/api/v1/products/1/", "/api/v1/builds/"):
        assert client.options(path).status_code == 200


def test_errors_point_to_what_they_are_about(client: Client, db: None) -> None:
    question = {"like": ["a", 5, {}], "k": 0}
    problem = problem_of(client.post("/api/v1/similar/", json.dumps(question), "application/json"), 400)
    assert {error["pointer"] for error in problem["errors"]} >= {"#/like/2", "#/k"}
    assert problem["detail"].startswith(f"{problem['errors'][0]['pointer'][2:].replace('/', '.')}: ")
    problem = problem_of(client.get("/api/v1/products/?sort=x"), 400)
    assert [(error["parameter"], error["code"]) for error in problem["errors"]] == [("sort", "invalid_choice")]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("the secret recipe")

    monkeypatch.setattr(api, "suggest", fail)


def test_a_fault_of_ours_tells_nothing_but_itself(db: None, broken: None, caplog: pytest.LogCaptureFixture) -> None:
    answer = Client(raise_request_exception=False).get("/api/v1/suggest/?q=x")
    problem_of(answer, 500)
    assert b"recipe" not in answer.content
    assert "the secret recipe" in caplog.text


def test_a_page_that_fails_is_a_page(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.views.counted_facets", lambda asked: 1 / 0)
    answer = Client(raise_request_exception=False).get("/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "text/html; charset=utf-8")


def test_a_host_that_is_not_ours_is_refused_in_the_same_form(client: Client, db: None) -> None:
    answer = client.get("/api/v1/products/", headers={"host": "evil.example"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert b"evil.example" not in answer.content
    page = client.get("/", headers={"host": "evil.example"})
    assert (page.status_code, page.headers["Content-Type"]) == (400, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "english", "portuguese"),
    [
        ("/api/v1/products/nobody/", "Not found.", "Não encontrado."),
        ("/api/v1/nonsense/", "Not found.", "Não encontrado."),
        (
            "/api/v1/products/?cursor=x",
            "cursor: This is no cursor of `next` or `previous`.",
            "cursor: Este não é um cursor de `next` nem de `previous`.",
        ),
        (
            "/api/v1/products/1/similar/?mix=style:0",
            "mix: All weights of the mix are zero: nothing is left to compare.",
            "mix: Todos os pesos da mistura são zero: não resta nada para comparar.",
        ),
    ],
)
def test_problems_are_told_in_the_language_asked_for(
    client: Client, add: Add, path: str, english: str, portuguese: str
) -> None:
    add("1", shown=True)
    assert problem_of(client.get(path))["detail"] == english
    answer = client.get(path, headers={"accept-language": "pt-BR,pt;q=0.9,en;q=0.5"})
    assert problem_of(answer)["detail"] == portuguese
    assert answer.headers["Content-Language"] == "pt-br"


def test_an_address_that_lacks_its_last_slash_leads_there(client: Client, db: None) -> None:
    answer = client.get("/api/v1/products?q=a%20b")
    assert (answer.status_code, answer.headers["Location"]) == (301, "/api/v1/products/?q=a%20b")


def test_the_types_of_problems_are_explained_where_they_lead(client: Client, db: None) -> None:
    page = client.get("/api/problems/").content.decode()
    for code, (status, title, _help) in PROBLEMS.items():
        assert f'id="{code}"' in page
        assert str(status) in page
        assert escape(str(title)) in page

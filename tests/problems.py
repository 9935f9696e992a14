"""Reading the problems that the API answers with."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def problem_of(answer: Any, status: int | None = None) -> dict[str, Any]:
    """The problem details of an answer, which has all that RFC 9457 asks for."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert status in (None, answer.status_code), problem
    assert problem["type"].startswith("http://")
    assert all(problem[name] for name in ("title", "detail", "instance"))
    return problem


def errors_of(answer: Any, status: int = 400) -> dict[str, list[str]]:
    """What is wrong: parameter, or pointer without "#/" → sentences."""
    found = defaultdict(list)
    for error in problem_of(answer, status)["errors"]:
        where = error["parameter"] if "parameter" in error else error.get("pointer", "#/").removeprefix("#/")
        assert error["code"]
        found[where].append(error["detail"])
    return dict(found)

"""Everything that the API's document promises, what it does not, and what no document foresees: never a 5xx."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import requests
import schemathesis
from hypothesis.errors import Unsatisfiable

from bench.torture.ground import PATIENCE_S, Report, Shop

EXAMPLES = 40
"""Of each operation and kind (what the document promises, and what it does not) in a round."""
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


class Asking:
    """Asks, counts, and notes every answer that is none."""

    def __init__(self, report: Report, address: str, key: str) -> None:
        self.report, self.address = report, address
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Api-Key {key}"
        self.answers: Counter[int] = Counter()

    def note(self, what: str, response: requests.Response | schemathesis.Response) -> None:
        self.report.tried += 1
        self.answers[response.status_code] += 1
        if response.status_code >= 500 and not self._says_that_there_is_no_build(response):
            self.report.failures.append(f"{what[:300]}: {response.status_code}")

    def _says_that_there_is_no_build(self, response: requests.Response | schemathesis.Response) -> bool:
        return response.status_code == 503 and b"build_index" in response.content

    def ask(self, method: str, path: str, **more: Any) -> None:
        what = f"{method} {path} {str(more)[:200]}"
        try:
            response = self.session.request(
                method, self.address + path, timeout=PATIENCE_S, allow_redirects=False, **more
            )
        except requests.ConnectionError as error:  # gunicorn hangs up on what is no HTTP
            self.report.tried += 1
            self.report.expect("Connection aborted" in str(error) or "Broken pipe" in str(error), f"{what}: {error}")
        except (requests.RequestException, ValueError):
            pass  # nothing was sent
        else:
            self.note(what, response)


def run(count: int, seed: int, folder: Path) -> Report:
    report = Report("fuzz", seed)
    shop = Shop(folder)
    shop.stock()
    key, ids = shop.key(), shop.ids()
    with shop.served() as server:
        asking = Asking(report, server.address, key)
        document = requests.get(f"{server.address}/api/schema/?format=json", timeout=PATIENCE_S).json()
        chance = random.Random(seed)
        foreseen_by_nobody = list(nasty(document, ids))
        chance.shuffle(foreseen_by_nobody)
        for method, path, more in foreseen_by_nobody[: count // 2]:
            asking.ask(method, path, **more)
        by_hand = report.tried
        schema = schemathesis.openapi.from_dict(document)
        operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
        number = 0
        while report.tried < count:
            examples = max(1, min(EXAMPLES, (count - report.tried) // (2 * len(operations)) + 1))
            for operation in operations:
                for mode in MODES:
                    number += 1
                    explore(operation, mode, examples, seed * 1_000_000 + number, asking, ids)
        report.expect(server.deaths() == 0, f"{server.deaths()} workers had to be replaced")
        before, found, after = server.said().partition("Traceback (most recent call last)")
        report.expect(not found, f"a traceback in the log: {before[-300:]}{found}{after[:3000]}")
        report.figures = {
            **{"operations": len(operations), "by_hand": by_hand, "5xx": 0, "worker_deaths": server.deaths()},
            "answers": {str(status): n for status, n in sorted(asking.answers.items())},
        }
        report.figures["5xx"] = len(report.failures)
    return report


def explore(
    operation: Any, mode: schemathesis.GenerationMode, examples: int, seed: int, asking: Asking, ids: list[str]
) -> None:
    """Let schemathesis make requests for an operation; half of them about products that there are."""
    chance = random.Random(seed)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        for name in case.path_parameters or {}:
            if chance.random() < 0.5:
                case.path_parameters[name] = chance.choice(ids)
        asking.note(
            f"{case.method} {case.formatted_path} {case.query} {case.body!r}",
            case.call(base_url=asking.address, session=asking.session, timeout=PATIENCE_S),
        )

    with contextlib.suppress(Unsatisfiable):  # an operation that has nothing to be wrong about
        ask()


# --- by hand ---------------------------------------------------------------------------------------
NUMBERS = ("0", "-1", "1000000000", "1" + "0" * 30, "1" + "0" * 5000, "NaN", "Infinity", "-0.0", "1e309", "0x10", "١٢")
TEXTS = (
    "",
    " ",
    "null",
    "true",
    "[]",
    "{}",
    "a" * 10_000,
    "\0",
    "\x1b[31m",
    "\ud800",
    "\u202e",
    "💡" * 500,
    "%",
    "%zz",
)
PROGRAMS = (
    "' OR 1=1 --",
    '" AND *',
    "NEAR(",
    "a* OR b*",
    "^title:",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "../../etc",
)
OURS = (
    "style:nan,colour:1",
    "colour:1e400",
    "style=1",
    "1,2",
    "0.1,0.1,2,2",
    "-1,0,1,1",
    "nan,0,1,1",
    "a,b,c,d",
    "9" * 400,
)
VALUES = (*NUMBERS, *TEXTS, *PROGRAMS, *OURS)
BODIES: tuple[tuple[str, bytes], ...] = (
    ("nested lists", b"[" * 250_000 + b"]" * 250_000),
    ("nested objects", b'{"a":' * 80_000 + b"1" + b"}" * 80_000),
    ("an unended string", b'"' + b"a" * 1_000_000),
    ("a large list", json.dumps(list(range(200_000))).encode()),
    ("many names", json.dumps({f"name {number}": number for number in range(20_000)}).encode()),
    ("a long number", b'{"k": ' + b"9" * 100_000 + b"}"),
    ("no numbers", b'{"k": NaN, "price": Infinity, "mix": {"style": -Infinity}}'),
    ("a number too large", b'{"k": 1e400}'),
    ("half a pair", b'{"title": "\\ud800", "product_id": "\\udfff"}'),
    ("a zero", b'{"title": "a\\u0000b", "product_id": "\\u0000"}'),
    ("not UTF-8", b'{"title": "\xff\xfe"}'),
    ("UTF-16", '{"title": "x"}'.encode("utf-16")),
    ("a mark first", b'\xef\xbb\xbf{"title": "x"}'),
    ("names twice", b'{"product_id": "a", "product_id": ["b"]}'),
    *((text, text.encode()) for text in ("", "null", "1", '"x"', "[]", "[[]]", "{}", "true", "{", "]", "\0")),
    ("wrong types", b'{"product_id": {}, "title": [], "like": "x", "unlike": 5, "k": "many", "mix": [1], "crop": {}}'),
    ("odd ks", b'{"like": ["V0001"], "k": -1}'),
    ("k of a billion", b'{"like": ["V0001"], "k": 1000000000}'),
    ("k of nothing", b'{"like": ["V0001"], "k": 0}'),
    ("like itself", json.dumps({"like": ["V0001"] * 5000}).encode()),
)
TYPES = (
    "application/json",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "text/plain",
    "application/xml",
    "",
)
HEADERS = ("Accept", "Accept-Language", "If-None-Match", "If-Match", "Range", "Cookie", "X-Forwarded-For", "Host")
PAGES = ("/", "/like/", "/products/V0001/", "/products/V0001/why/V0002/", "/map/", "/search/", "/get_similar")
PAGE_NAMES = ("q", "page", "sort", "gender", "category", "area", "like", "unlike", "mix", "k", "crop", "after", "mode")


def nasty(document: dict[str, Any], ids: list[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, what else `requests` is told) for every operation and every value above."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", [])
            names = [each["name"] for each in parameters if each["in"] == "path"]
            there = path
            for name in names:
                there = there.replace(f"{{{name}}}", quote(ids[0]))
            if method != "delete":
                for value in VALUES:
                    for parameter in parameters:
                        if parameter["in"] == "query":
                            yield method.upper(), f"{there}?{parameter['name']}={_quoted(value)}", {}
            for value in VALUES:
                for name in names:
                    odd = path.replace(f"{{{name}}}", _quoted(value))
                    for other in names:
                        odd = odd.replace(f"{{{other}}}", quote(ids[-1]))
                    yield method.upper(), odd, {}
            if "requestBody" in operation:
                for _, body in BODIES:
                    for kind in TYPES:
                        yield method.upper(), there, {"data": body, "headers": {"Content-Type": kind}}
            for odd_method in ("TRACE", "PROPFIND", "PATCH", "X" * 40):
                yield odd_method, there, {}
    for page in PAGES:
        for name in PAGE_NAMES:
            for value in VALUES:
                yield "GET", f"{page}?{name}={_quoted(value)}", {}
    for header in (
        "Accept",
        "Accept-Language",
        "If-None-Match",
        "If-Match",
        "Range",
        "Cookie",
        "X-Forwarded-For",
        "Host",
    ):
        for value in (
            "",
            "a" * 7000,
            "*/*;q=nan",
            '"',
            'W/"',
            "bytes=9-1",
            "sessionid=\xff; csrftoken=" + "x" * 4000,
            ",,,",
        ):
            yield "GET", "/api/v1/products/", {"headers": {header: value.encode("latin-1")}}
            yield "GET", "/", {"headers": {header: value.encode("latin-1")}}


def _quoted(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"), safe="")

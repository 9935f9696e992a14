"""Visitors, an editor in the admin and a program with a key, as locust has them (https://docs.locust.io).

What each request was answered with goes to the file TORTURE_NOTES, a JSON line each: when it was sent (UNIX time), what
was asked for, the status, the product, and the ids of the matches.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from locust import HttpUser, constant, task

from bench.torture.ground import PATIENCE_S

IDS = json.loads(os.environ["TORTURE_IDS"])
KEY = os.environ.get("TORTURE_KEY", "")
PASSWORD = os.environ.get("TORTURE_PASSWORD", "")
CHANCE = random.Random(int(os.environ.get("TORTURE_SEED", "1")))
NUMBERS = itertools.count(1)
NOTES = Path(os.environ["TORTURE_NOTES"]).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until we end


class Asking(HttpUser):
    abstract = True
    wait_time = constant(0.01)

    def ask(self, method: str, path: str, name: str, product: str = "", **more: Any) -> Any:
        sent = time.time()
        with self.client.request(method, path, name=name, catch_response=True, timeout=PATIENCE_S, **more) as response:
            note = {"sent": sent, "name": name, "status": response.status_code, "product": product}
            if response.status_code == 200 and name == "similar":
                note["matches"] = [each["product_id"] for each in response.json()["matches"]]
            elif response.status_code >= 400 or response.status_code == 0:
                note["trouble"] = f"{response.error or ''} {(response.text or '')[:300]}"
            NOTES.write(json.dumps(note) + "\n")
        return response


class Visitor(Asking):
    weight = 4

    @task(6)
    def similar(self) -> None:
        product = CHANCE.choice(IDS)
        self.ask("GET", f"/api/v1/products/{product}/similar/", "similar", product)

    @task(3)
    def page(self) -> None:
        product = CHANCE.choice(IDS)
        self.ask("GET", f"/products/{product}/", "page", product)

    @task
    def grid(self) -> None:
        self.ask("GET", f"/?page={CHANCE.randrange(1, 5)}&q={CHANCE.choice(('', 'shirt', 'blue'))}", "grid")


class Program(Asking):
    """Writes through the API."""

    fixed_count = 1 if KEY else 0
    weight = 1 if KEY else 0

    @task
    def write(self) -> None:
        number = next(NUMBERS)
        product_id = f"P{number % 8}"
        body = {"product_id": product_id, "title": f"written {number}"}
        headers = {"Authorization": f"Api-Key {KEY}"}
        self.ask("PUT", f"/api/v1/products/{product_id}/", "write", product_id, json=body, headers=headers)


class Editor(Asking):
    """Saves products in the admin, form by form."""

    fixed_count = 1 if PASSWORD else 0
    weight = 1 if PASSWORD else 0

    def on_start(self) -> None:
        page = self.client.get("/admin/login/")
        form = Form(page.text).values
        form |= {"username": "editor", "password": PASSWORD, "next": "/admin/"}
        answer = self.client.post("/admin/login/", data=form, headers={"Referer": f"{self.host}/admin/login/"})
        assert "sessionid" in self.client.cookies, answer.text[:500]

    @task
    def save(self) -> None:
        path = f"/admin/catalog/product/{CHANCE.randrange(1, len(IDS) + 1)}/change/"
        page = self.ask("GET", path, "form")
        if page.status_code == 200:
            form = Form(page.text).values
            form |= {"title": f"saved {next(NUMBERS)}", "_save": "Save"}
            headers = {"Referer": f"{self.host}{path}"}
            answer = self.ask("POST", path, "save", data=form, headers=headers, allow_redirects=False)
            if answer.status_code == 200:  # a form that was not taken comes back with what is wrong
                NOTES.write(json.dumps({"name": "save", "status": 422, "sent": 0, "trouble": "not taken"}) + "\n")


class Form(HTMLParser):
    """What a browser would send of a page's fields, files left out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._area = self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        has = dict(attributes)
        name, kind = has.get("name") or "", has.get("type") or "text"
        if tag == "input" and name and kind not in ("submit", "file", "checkbox", "radio", "search"):
            self.values[name] = has.get("value") or ""
        elif tag == "input" and name and kind in ("checkbox", "radio") and "checked" in has:
            self.values[name] = has.get("value") or "on"
        elif tag == "textarea" and name:
            self._area, self.values[name] = name, ""
        elif tag == "select" and name:
            self._select = name
        elif tag == "option" and self._select and "selected" in has:
            self.values[self._select] = has.get("value") or ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.values[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        elif tag == "select":
            self._select = ""

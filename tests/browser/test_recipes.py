"""docs/recipes.md: every recipe is run as it stands, and prints what it says."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Page

from catalog.models import ApiKey, Product
from similarity import serving
from tests import shared
from tests.browser.conftest import Stock, import_and_build
from tests.processes import PATIENCE_S, ROOT

SHOP = "http://127.0.0.1:8000"
KEY = "abcd1234.0123456789abcdef0123456789abcdef"
TEXT = (ROOT / "docs" / "recipes.md").read_text()


@dataclass(frozen=True)
class Recipe:
    """A block of code and the lines that it says it prints."""

    language: str
    line: int
    code: str
    prints: list[str]

    def __str__(self) -> str:
        return f"docs/recipes.md, line {self.line}"


def recipes(language: str) -> list[Recipe]:
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    return [
        Recipe(
            block[1], TEXT[: block.start()].count("\n") + 1, block[2], re.findall(r"^(?:#|//) → (.*)$", block[2], re.M)
        )
        for block in found
        if block[1] == language
    ]


@dataclass(frozen=True)
class Demo:
    address: str
    key: str

    def fitted(self, recipe: Recipe) -> str:
        return recipe.code.replace(SHOP, self.address).replace(KEY, self.key)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Stock:
    if connection.vendor == "sqlite":
        return Stock(shared.demo(), sqlite3.connect(shared.demo() / "vitrine.sqlite3", check_same_thread=False))
    return Stock.made(tmp_path_factory.mktemp("demo") / "var", django_db_blocker, import_and_build)


@pytest.fixture
def demo(transactional_db: None, live_server: Any, stock: Stock, data_dir: Path) -> Iterator[Demo]:
    """The shop that `make demo` shows."""
    stock.copy_to(data_dir)
    yield Demo(live_server.url, ApiKey.objects.create_key(name="Recipes", builds=True)[1])
    serving.reset_index()


def test_there_is_a_recipe_in_every_language_for_everything() -> None:
    sections = re.findall(r"^## .*$", TEXT, flags=re.MULTILINE)
    for language in ("sh", "js", "python"):
        assert len(recipes(language)) == len(sections)
        assert all(recipe.prints for recipe in recipes(language))
    assert TEXT.count("```") == 2 * 3 * len(sections)


def said_by(command: list[str], recipe: Recipe) -> list[str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, ""), f"{recipe}: {done.stderr}"
    return [line.strip() for line in done.stdout.splitlines()]


def test_the_recipes_with_curl_print_what_they_say(demo: Demo) -> None:
    before = Product.objects.count()
    for recipe in recipes("sh"):
        assert said_by(["bash", "-c", demo.fitted(recipe)], recipe) == recipe.prints, recipe
    assert Product.objects.count() == before


def test_the_recipes_with_requests_print_what_they_say(demo: Demo) -> None:
    for recipe in recipes("python"):
        assert said_by([sys.executable, "-W", "error", "-c", demo.fitted(recipe)], recipe) == recipe.prints, recipe


def test_the_recipes_with_fetch_print_what_they_say_in_a_page(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.address}/")
    for recipe in recipes("js"):
        listen = "const said = [], console = { log: (...words) => said.push(words.join(' ')) };"
        run = f"async () => {{ {listen}\n{demo.fitted(recipe)}\nreturn said; }}"
        assert page.evaluate(run) == recipe.prints, recipe

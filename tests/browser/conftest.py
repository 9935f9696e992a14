"""A real Chromium, on pages that a real server serves."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from playwright.sync_api import ConsoleMessage, Page, expect

from catalog.models import Product
from similarity import serving
from similarity.maps.serving import reset_maps
from tests.conftest import DEMO_CATALOGUE, settings_for

expect.set_options(timeout=20_000)  # 5 s are few where the machine is shared with other tests, and with strangers


def find_chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser these tests are skipped; where one is required, they fail instead."""
    missing = pytest.mark.skip(reason="no Chromium on this machine: apt-get install chromium, or set CHROMIUM")
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)
            if not find_chromium() and not os.environ.get("VITRINE_REQUIRE_BROWSER"):
                item.add_marker(missing)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    chromium = find_chromium()
    assert chromium, "VITRINE_REQUIRE_BROWSER is set, and there is no Chromium"
    # Root may not use Chromium's sandbox; the pages are our own.
    return {**browser_type_launch_args, "executable_path": chromium, "args": ["--no-sandbox"]}


@dataclass(frozen=True)
class Stock:
    """A shop that was made once: its database, and the folder of its data. Each test gets a copy, at once."""

    folder: Path
    database: sqlite3.Connection | Path
    """A copy of SQLite's, or the rows of another database in a file."""

    @classmethod
    def made(cls, folder: Path, blocker: Any, make: Callable[[], object]) -> Stock:
        """With what `make` does; the database is empty again afterwards."""
        on_sqlite = connection.vendor == "sqlite"
        database = sqlite3.connect(":memory:", check_same_thread=False) if on_sqlite else folder.with_suffix(".json")
        with blocker.unblock(), override_settings(**settings_for(folder)):
            serving.reset_index()
            make()
            connection.ensure_connection()
            if isinstance(database, Path):
                call_command("dumpdata", "catalog", "similarity", output=str(database), verbosity=0)
            else:
                connection.connection.backup(database)
            call_command("flush", verbosity=0, interactive=False)
        return cls(folder, database)

    def copy_to(self, folder: Path) -> None:
        """Into the data folder and the database of the running test."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        connection.ensure_connection()
        if isinstance(self.database, Path):
            call_command("loaddata", str(self.database), verbosity=0)
        else:
            self.database.backup(connection.connection)
        cache.clear()
        serving.reset_index()
        reset_maps()


def import_and_build(*options: str) -> None:
    """The demo's products, embedded for real."""
    images = str(DEMO_CATALOGUE / "images")
    call_command("import_fashion", str(DEMO_CATALOGUE / "fashion.csv"), "--images", images, *options, "--json")
    call_command("build_index", model="efficientnet-lite0", verbosity=0)


@pytest.fixture(scope="session")
def forty(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Stock:
    folder = tmp_path_factory.mktemp("forty") / "var"
    return Stock.made(folder, django_db_blocker, lambda: import_and_build("--limit", "40"))


@pytest.fixture(scope="session")
def forty_with_map(forty: Stock, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Stock:
    folder = tmp_path_factory.mktemp("mapped") / "var"

    def draw() -> None:
        forty.copy_to(folder)
        call_command("build_map", verbosity=0)

    return Stock.made(folder, django_db_blocker, draw)


@pytest.fixture
def shop(transactional_db: None, live_server: Any, forty: Stock, data_dir: Path) -> Iterator[str]:
    """The address of a shop with forty of the demo's products."""
    forty.copy_to(data_dir)
    assert Product.objects.count() == 40
    yield live_server.url
    serving.reset_index()


@pytest.fixture
def shop_with_map(transactional_db: None, live_server: Any, forty_with_map: Stock, data_dir: Path) -> Iterator[str]:
    """The same, with its map."""
    forty_with_map.copy_to(data_dir)
    yield live_server.url
    serving.reset_index()
    reset_maps()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser complains of: refused styles and scripts, errors, things not found."""
    heard: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            heard.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard

"""A real Chromium, on pages that a real server serves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from playwright.sync_api import ConsoleMessage, Page

from catalog.models import Product
from similarity import serving
from tests.conftest import DEMO_CATALOGUE, use_data_dir


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


@pytest.fixture(scope="session")
def kept_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser") / "var"


@pytest.fixture(autouse=True)
def data_dir(kept_data_dir: Path, settings: Any) -> Path:
    """One folder for all these tests: pictures and embeddings are made once, the database is new each time."""
    return use_data_dir(settings, kept_data_dir)


@pytest.fixture
def shop(transactional_db: None, live_server: Any) -> Iterator[str]:
    """The address of a shop with forty of the demo's products, embedded for real."""
    cache.clear()
    serving.reset_index()
    call_command(
        "import_fashion",
        str(DEMO_CATALOGUE / "fashion.csv"),
        *("--images", str(DEMO_CATALOGUE / "images"), "--limit", "40", "--json"),
    )
    call_command("build_index", model="efficientnet-lite0", verbosity=0)
    assert Product.objects.count() == 40
    yield live_server.url
    serving.reset_index()


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

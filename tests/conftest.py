"""What every test stands on: a data folder of its own, and no connection beyond this machine."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck

from tests import shared

# The browser's driver runs an event loop in the thread of the tests, where Django would refuse the database.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

# How fast an example goes says something of the machine and nothing of the code; and what a fixture made may serve for
# all examples.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
hypothesis.settings.load_profile("tests")

REAL_CATALOGUE = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "fashion"
DEMO_CATALOGUE = Path(__file__).resolve().parent.parent / "fixtures" / "demo"


LONG = ("test_torture", "test_end_to_end", "test_backups", "test_backups_postgres", "test_build_index", "test_recipes")
"""Files that take longest: begun first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if label := getattr(item, "operation_label", None):  # schemathesis' tests would all have one id
            item._id = item.id.with_params(label)
    (id_, count), *_ = Counter(item.nodeid for item in items).most_common(1)
    if count > 1:
        raise pytest.UsageError(f"{count} tests are called {id_}: pytest-xdist would run one of them, and say nothing.")
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Any) -> Path:
    """A folder of its own for each test's pictures, spaces and builds."""
    return use_data_dir(settings, tmp_path / "var")


def use_data_dir(settings: Any, folder: Path) -> Path:
    for name, value in settings_for(folder).items():
        setattr(settings, name, value)
    return folder


def settings_for(folder: Path) -> dict[str, Any]:
    """What has to be set for everything to be written there."""
    folders = {f"{name.upper()}_DIR": folder / name for name in ("spaces", "builds", "maps")}
    return {
        "DATA_DIR": folder,
        "MEDIA_ROOT": folder / "media",
        "SIMILARITY": {**django_settings.SIMILARITY, **folders, "CONVERTED_DIR": shared.folder() / "converted"},
    }


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def real_catalogue() -> Path:
    """The folder of the real catalogue (fashion.csv and images/)."""
    if not (REAL_CATALOGUE / "fashion.csv").is_file():
        pytest.skip("the real catalogue is not on this machine (shared/data/fashion beside the checkout)")
    return REAL_CATALOGUE

"""A short part of the torture (`make torture`; docs/reliability.md): nothing lost, nobody let in, nothing dies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench.torture.ground import Shop
from tests import shared
from tests.processes import PATIENCE_S, run_python

pytestmark = pytest.mark.slow


DATABASES = ("DATABASE_URL", "TEST_DATABASE_URL")
"""The scenarios have databases of their own."""


@pytest.fixture(scope="module")
def stock() -> Path:
    """The installation that every scenario begins with."""
    return shared.made_once("torture", stocked)


def stocked(folder: Path) -> None:
    shop = Shop(folder)
    for name in DATABASES:
        shop.environment.pop(name, None)
    shop.stock()


@pytest.mark.skipif("TEST_DATABASE_URL" in os.environ, reason="looks into the files of SQLite")
@pytest.mark.parametrize(
    ("scenario", "count"),
    [
        ("images", 300),
        ("addresses", 300),
        ("kills", 4),
        ("disk", 1),
        ("builds", 40),
        ("swaps", 2),
        ("fuzz", 300),
        ("locks", 3),
    ],
)
def test_nothing_gives_way(stock: Path, scenario: str, count: int) -> None:
    put_through(scenario, count, stock)


def test_nothing_gives_way_where_a_whole_server_is_killed(stock: Path) -> None:
    put_through("postgres", 2, stock)


def put_through(scenario: str, count: int, stock: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in DATABASES}
    environment["TORTURE_STOCK"] = str(stock)
    asked = ("-m", "bench.torture", scenario, "--count", str(count), "--seed", "20261123")
    done = run_python(*asked, env=environment, check=False, deadline_s=4 * PATIENCE_S)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    if report["skipped"]:
        pytest.skip(report["skipped"])
    assert report["failures"] == []
    assert report["tried"] >= count or scenario == "locks"
    assert done.returncode == 0

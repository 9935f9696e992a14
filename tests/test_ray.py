"""Embedding by Ray: the same pictures, the same vectors, wherever they are made and whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.torture.ground import Shop
from tests.conftest import DEMO_CATALOGUE
from tests.processes import PATIENCE_S, ROOT, database_of, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs requirements-ray.txt"),
]

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
BUILD = ("build_index", "--no-report", "--json")
SPACES = """
import hashlib
from pathlib import Path
from django.conf import settings
from similarity import building
from similarity.spaces import Space
root = Path(settings.SIMILARITY["SPACES_DIR"])
_, spaces = building._embedders_and_spaces("cheap")
for part, space in spaces.items():
    held = space.read(verify=True)
    pictures = [digest.tobytes() for digest in held.digests]  # an import numbers its pictures as they come
    order = sorted(range(len(pictures)), key=pictures.__getitem__)
    content = hashlib.sha256(held.vectors[order].round(3).tobytes()).hexdigest()
    print(part, len(held.rows), len(set(held.rows.tolist())), content)
"""


def shop_in(folder: Path, **more: str) -> Shop:
    """The demo's pictures, imported and not embedded."""
    shop = Shop(folder, **QUIET, **database_of(folder), **more)
    shop.manage("migrate", "-v0")
    shop.manage("import_fashion", str(DEMO_CATALOGUE / "fashion.csv"), "--images", str(DEMO_CATALOGUE / "images"))
    return shop


@pytest.fixture(scope="module")
def embedded_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is in the spaces of a shop that has embedded its pictures on its own."""
    shop = shop_in(tmp_path_factory.mktemp("local"))
    shop.manage(*BUILD)
    return shop.python(SPACES)


def test_a_cluster_of_this_machine_makes_the_same_and_then_nothing_is_left_to_do(
    tmp_path: Path, embedded_here: str
) -> None:
    shop = shop_in(tmp_path)
    report = json.loads(shop.manage(*BUILD, "--runner", "ray").stdout)
    assert (report["embedded"], report["failed"]) == (243, 0)
    assert shop.python(SPACES) == embedded_here
    again = json.loads(shop.manage(*BUILD, "--runner", "ray").stdout)
    assert (again["embedded"], again["changed"]) == (0, False)


def test_a_product_that_goes_meanwhile_is_passed_over(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)
    shop.python(LATE)
    assert json.loads(shop.manage(*BUILD).stdout)["embedded"] == 1  # the one that was not there to be read


LATE = """
from django.conf import settings
from similarity import building, pipeline, products
from similarity.runners import distributed
from catalog.models import Product
from contextlib import ExitStack
embedders, spaces = building._embedders_and_spaces("cheap")
work = pipeline.plan_work(products.current_pictures(), spaces)
row, digest = Product.objects.filter(product_id="V0007").values_list("embedding_row", "image_sha256").get()
Product.objects.filter(product_id="V0007").update(embedding_row=None)
with ExitStack() as stack:
    writers = {part: stack.enter_context(space.writing()) for part, space in spaces.items()}
    models = {"style": "cheap", "colour": "colour"}
    assert sum(batch.embedded for batch in distributed.embed(None, work, models, embedders, writers)) == 242
Product.objects.filter(product_id="V0007").update(embedding_row=row)
"""


class Nodes:
    def __init__(self, shop: Shop) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_nodes"],
            cwd=ROOT,
            env=shop.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._said()

    def _said(self) -> str:
        assert self.process.stdout
        while line := self.process.stdout.readline():
            if line.strip() == "killed" or line.startswith("127.0.0.2:"):
                return line.strip()
        raise AssertionError("the nodes have ended")

    def kill_one(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        assert self._said() == "killed"

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Shop, Nodes]]:
    # So slow that both nodes are in the middle of it when one goes.
    shop = shop_in(tmp_path, TORTURE_MODEL_DELAY_S="1", VITRINE_RAY_ACTORS="2")
    two = Nodes(shop)
    yield shop, two
    two.end()


def test_a_node_that_is_killed_in_the_middle_costs_nothing_but_time(
    nodes: tuple[Shop, Nodes], embedded_here: str
) -> None:
    shop, two = nodes
    build = subprocess.Popen(
        [sys.executable, "manage.py", *BUILD, "--runner", "ray", "--address", two.address],
        cwd=ROOT,
        env={**os.environ, **shop.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: some_written(shop.folder) or build.poll() is not None)
    two.kill_one()
    under_way = build.poll() is None
    said, trouble = build.communicate(timeout=PATIENCE_S)
    assert build.returncode == 0, trouble
    assert under_way, "it had ended before the node was killed"
    assert json.loads(said)["embedded"] == 243
    assert shop.python(SPACES) == embedded_here


def some_written(folder: Path) -> bool:
    return any(path.stat().st_size for path in (folder / "spaces").glob("cheap*/vectors*"))


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, VITRINE_RAY_ACTORS="2", VITRINE_RAY_GPUS="1")
    done = shop.manage(*BUILD, "--runner", "ray", check=False)
    assert done.returncode == 1
    assert "VITRINE_RAY_GPUS" in done.stderr
    shop = shop_in(tmp_path / "other")
    done = shop.manage(*BUILD, "--runner", "ray", "--address", "127.0.0.1:1", check=False)
    assert done.returncode == 1
    assert "Ray cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr

"""`manage.py build_map`: what it makes, when it has nothing to do, and what damage does."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity import builds
from similarity.building import build_index
from similarity.maps import serving, storage
from similarity.maps.building import build_map
from similarity.maps.sheets import UNITS
from similarity.maps.storage import MapBusy, MapError, NoMap, map_lock, maps_dir
from tests.processes import environment, run_python
from tests.similarity.conftest import AddProduct

FILES = ["cells.npy", "digests.npy", "rows.npy", "sheets.bin", "tiles.npy"]


def run(**options: Any) -> str:
    out = io.StringIO()
    call_command("build_map", stdout=out, **options)
    return out.getvalue()


def folders() -> set[str]:
    return {path.name for path in maps_dir().iterdir() if path.is_dir()}


@pytest.fixture
def spectrum(add_product: AddProduct) -> list[Product]:
    """Twelve colours from red to blue."""
    return [add_product(f"c{at:02}", (200 - 16 * at, 20, 16 * at)) for at in range(12)]


def test_every_picture_has_a_cell_of_its_own(spectrum: list[Product]) -> None:
    Product.objects.filter(product_id="c03").update(hidden=True)
    build = build_index().index
    report = build_map()
    shown = serving.get_map()
    assert (report.built, report.build, report.products) == (True, build, 12)
    assert shown.manifest.build == build
    assert set(shown.rows.tolist()) == set(Product.objects.values_list("embedding_row", flat=True))
    assert len(np.unique(shown.cells, axis=0)) == 12
    assert {name.unit for name in shown.tile_at} == set(UNITS)
    assert (shown.cells < [report.columns, report.rows]).all()


def test_the_command_tells_what_it_did_and_then_has_nothing_to_do(reds_and_blues: dict[str, Product]) -> None:
    build = build_index().index
    printed = run()
    assert f"Laid 4 pictures of index {build} out on " in printed
    assert "Its sprite sheets are 5 tiles, " in printed
    assert run() == f"The map shows index {build} already (4 pictures); it stays as it is.\n"
    report = json.loads(run(json=True, full=True))
    assert (report["built"], report["build"], report["products"], report["tiles"]) == (True, build, 4, 5)
    assert {"opening", "projection", "cells", "measuring", "drawing"} == set(report["seconds"])


def test_the_same_catalogue_has_the_same_map(spectrum: list[Product]) -> None:
    build_index()
    first = build_map()
    cells = serving.get_map().cells
    again = build_map(full=True)
    assert again.built and again.map == first.map
    serving.reset_maps()
    assert (serving.get_map().cells == cells).all()


def test_without_an_index_it_names_the_command(db: None) -> None:
    with pytest.raises(CommandError, match=r"No index has been built yet. Run: python manage.py build_index"):
        run()


def test_without_pictures_it_names_the_commands(add_product: AddProduct) -> None:
    add_product("bare")
    build_index()
    with pytest.raises(CommandError, match=r"holds no looks.*import_fashion.*build_index"):
        run()
    with pytest.raises(NoMap):
        serving.get_map()


def test_a_map_goes_on_when_the_index_is_another_one(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    former = build_index().index
    key = build_map().map
    add_product("young", (10, 200, 10))
    out = io.StringIO()
    call_command("build_index", stdout=out, no_report=True)
    assert "shows an earlier index. To draw it anew: python manage.py build_map" in out.getvalue()
    shutil.rmtree(builds.builds_dir() / former)
    assert serving.get_map().manifest.key == key
    assert len(serving.visible_map().cells) == 4
    assert build_map().products == 5
    assert len(serving.visible_map().cells) == 5, "a running server notices"


def test_build_index_says_nothing_of_a_map_that_is_not_there_or_up_to_date(reds_and_blues: dict[str, Product]) -> None:
    for draw in (lambda: None, build_map):
        draw()
        out = io.StringIO()
        call_command("build_index", stdout=out, no_report=True)
        assert "/map/" not in out.getvalue()


def test_former_maps_are_kept_for_links_and_then_removed(reds_and_blues: dict[str, Product]) -> None:
    keys = []
    for _ in range(2 + storage.KEPT_FORMER):
        build_index(full=True)
        keys.append(build_map().map)
    assert len(set(keys)) == len(keys)
    assert list(storage.kept_maps()) == keys[:0:-1]
    assert folders() == set(keys[1:])
    kept = serving.find_map(keys[1])
    assert kept is not None and kept.manifest.key == keys[1]
    assert serving.find_map(keys[0]) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_file_is_refused_and_made_anew(reds_and_blues: dict[str, Product], name: str, damage: str) -> None:
    build_index()
    key = build_map().map
    path = storage.folder_of(key) / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    serving.reset_maps()
    with pytest.raises(MapError, match=rf"{name} is .*Run: python manage.py build_map"):
        serving.get_map()
    assert build_map().built
    serving.reset_maps()
    assert serving.get_map().manifest.key == key
    assert folders() == {key}


@pytest.mark.parametrize("content", ["", "nonsense", "../../etc 00", "ffffffffffff", "a b c\n"])
def test_a_damaged_current_is_refused_and_mended(reds_and_blues: dict[str, Product], content: str) -> None:
    build_index()
    build_map()
    storage.current_path().write_text(content)
    serving.reset_maps()
    with pytest.raises(MapError, match=r"CURRENT is damaged. Run: python manage.py build_map"):
        serving.get_map()
    build_map()
    assert serving.get_map().manifest.count == 4


def test_a_changed_manifest_is_refused(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    path = storage.folder_of(build_map().map) / "manifest.json"
    path.write_text(path.read_text().replace('"columns": ', '"columns": 9'))
    serving.reset_maps()
    with pytest.raises(MapError, match="is not the manifest that was stored"):
        serving.get_map()


def test_a_new_map_that_is_damaged_leaves_the_former_one_answering(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    build_index()
    former = build_map().map
    assert serving.get_map().manifest.key == former
    add_product("young", (10, 200, 10))
    build_index()
    (storage.folder_of(build_map().map) / "cells.npy").write_bytes(b"")
    assert serving.get_map().manifest.key == former


def test_a_killed_run_leaves_the_former_map(
    reds_and_blues: dict[str, Product], add_product: AddProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index()
    former = build_map().map
    add_product("young", (10, 200, 10))
    build_index()

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            build_map()
    (maps_dir() / ".unfinished-000000000000").mkdir()  # and one that had no time to clear away
    serving.reset_maps()
    assert serving.get_map().manifest.key == former
    build_map()
    assert not list(maps_dir().glob(".unfinished-*"))


def test_two_at_a_time_are_refused(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    with map_lock(), pytest.raises(MapBusy, match="being made already, by process "):
        build_map()


def test_a_picture_without_thumbnail_has_its_place(reds_and_blues: dict[str, Product], settings: Any) -> None:
    build_index()
    (Path(settings.MEDIA_ROOT) / str(reds_and_blues["rose"].thumbnail)).unlink()
    assert build_map().products == 4


def test_pages_import_nothing_of_what_makes_a_map(tmp_path: Path) -> None:
    code = """
import django, sys
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
import numpy as np
from django.test import Client
from catalog.models import Product
from similarity.maps import storage
from similarity.maps.cells import Grid
from similarity.maps.sheets import draw_sheets
sha = "ab" * 32
Product.objects.create(product_id="1", title="One", image_sha256=sha, embedding_row=1, thumbnail="t.webp")
cells = np.zeros((1, 2), np.uint16)
digests = np.frombuffer(bytes.fromhex(sha), np.uint8).reshape(1, 32)
layout = storage.Layout("build", np.array([1]), digests, cells, Grid(1, 1), {})
with storage.map_lock():
    key = storage.store_map(layout, draw_sheets(cells, [None])).key
client = Client(HTTP_HOST="localhost")
paths = ["/map/", "/map/places.bin", f"/map/{key}/tiles/16/0/0.webp", f"/map/{key}/products/0/0.json"]
for path in [*paths, f"/?area={key}-0-0-4-0-4-4-0-4"]:
    assert client.get(path).status_code == 200, path
heavy = {"openTSNE", "sklearn", "scipy", "faiss", "torch", "transformers", "openvino"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    run_python("-c", code, env=environment(tmp_path))

"""A build is served whole or not at all, and a new one is noticed without a restart."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.models import Product
from similarity import builds, serving
from similarity.building import build_index, chosen_model
from similarity.builds import BuilderBusy, BuildError, NoBuild, build_lock, builds_dir
from similarity.embedders.base import file_sha256
from similarity.services import similar_to
from tests.processes import PATIENCE_S
from tests.similarity.conftest import AddProduct, embed_without_building, give_picture, png


def found(product: Product) -> list[str]:
    return [match.product.product_id for match in similar_to(product).matches]


def current_folder() -> Path:
    return builds_dir() / builds.current_manifest().id


def test_without_a_build_the_repair_is_named(db: None) -> None:
    with pytest.raises(NoBuild, match=r"manage.py build_index"):
        serving.get_index()


def test_a_new_build_is_noticed(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    first = build_index()
    assert serving.get_index().build.manifest.id == first.index
    add_product("new", (190, 0, 10))
    second = build_index()
    assert serving.get_index().build.manifest.id == second.index != first.index
    assert serving.get_index().count == 5


def test_building_again_without_news_publishes_nothing(reds_and_blues: dict[str, Product]) -> None:
    first, second = build_index(), build_index()
    assert (first.changed, second.changed) == (True, False)
    assert second.index == first.index
    assert (second.embedded, second.reused) == (0, 4)


@pytest.mark.parametrize("name", ["faiss.index", "rows.npy", "digests.npy", "manifest.json"])
def test_a_flipped_byte_in_any_file_is_refused(reds_and_blues: dict[str, Product], name: str) -> None:
    build_index()
    path = current_folder() / name
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BuildError, match=r"(is not the file|is not the one|cannot be used).*build_index"):
        serving.get_index()


def _remove(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [_remove, _truncate])
@pytest.mark.parametrize("name", ["faiss.index", "manifest.json"])
def test_a_missing_or_short_file_is_refused(
    reds_and_blues: dict[str, Product], harm: Callable[[Path], None], name: str
) -> None:
    build_index()
    harm(current_folder() / name)
    with pytest.raises(BuildError, match="build_index"):
        serving.get_index()


def test_files_of_two_builds_do_not_mix(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    build_index()
    former = (current_folder() / "rows.npy").read_bytes()
    add_product("new", (190, 0, 10))
    build_index()
    (current_folder() / "rows.npy").write_bytes(former)
    serving.reset_index()
    assert serving.get_index().count == 4  # the former build's
    assert "rows.npy" in str(serving.serving_error())


def test_files_are_read_whole_once_and_again_when_somebody_has_touched_them(
    reds_and_blues: dict[str, Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "TICK_NS", -(10**12))  # as if all had been written long before
    build_index()
    hashed: list[str] = []

    def watched(*paths: Path) -> str:
        hashed.extend(path.name for path in paths)
        return file_sha256(*paths)

    monkeypatch.setattr(builds, "file_sha256", watched)
    serving.get_index()
    assert set(hashed) == {"manifest.json"}  # the builder has just hashed the others
    (current_folder() / "rows.npy").touch()
    serving.reset_index()
    serving.get_index()
    assert "rows.npy" in hashed
    hashed.clear()
    serving.reset_index()
    serving.get_index()
    assert set(hashed) == {"manifest.json"}


def test_without_a_note_of_it_a_build_is_verified(reds_and_blues: dict[str, Product]) -> None:
    report = build_index()
    note = builds_dir() / "verified" / f"{report.index}.json"
    note.write_text("{}")
    assert serving.get_index().count == 4
    assert json.loads(note.read_text())["files"]
    note.write_text("damaged")
    path = current_folder() / "faiss.index"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    serving.reset_index()
    with pytest.raises(BuildError, match="not the file"):
        serving.get_index()


def test_what_is_written_in_the_moment_that_it_was_looked_at_is_found_out(reds_and_blues: dict[str, Product]) -> None:
    """The system may give both writings the same time."""
    build_index()
    path = current_folder() / "digests.npy"
    serving.get_index()
    times = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    note = builds_dir() / "verified" / f"{current_folder().name}.json"
    known = json.loads(note.read_text())
    known["files"]["digests.npy"][2] = path.stat().st_ctime_ns
    note.write_text(json.dumps(known))
    with pytest.raises(BuildError, match=r"digests\.npy is not the file"):
        builds.verify(builds.current_manifest())


def test_a_new_process_answers_from_the_former_build_where_the_current_one_is_damaged(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    first = build_index().index
    add_product("new", (190, 0, 10))
    second = build_index().index
    (builds_dir() / second / "rows.npy").write_bytes(b"nothing")
    serving.reset_index()  # as a process that has just begun
    assert serving.get_index().build.manifest.id == first
    assert "rows.npy is not the file" in str(serving.serving_error())


@pytest.mark.parametrize("damage", [b"", b"\x00\xff\n", b"one two three\n", b"../../etc/passwd 0\n"])
def test_a_damaged_line_of_current_leaves_the_others(
    reds_and_blues: dict[str, Product], add_product: AddProduct, damage: bytes
) -> None:
    first = build_index().index
    add_product("new", (190, 0, 10))
    build_index()
    lines = builds.current_path().read_bytes().splitlines(keepends=True)
    builds.current_path().write_bytes(damage + lines[1])
    serving.reset_index()
    assert serving.get_index().build.manifest.id == first


def test_a_disk_that_forgets_is_found_out_when_all_is_read_again(
    reds_and_blues: dict[str, Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a byte had changed and nothing else: the note is made to fit."""
    monkeypatch.setattr(builds, "TICK_NS", -(10**12))
    report = build_index()
    path = current_folder() / "faiss.index"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    note = builds_dir() / "verified" / f"{report.index}.json"
    known = json.loads(note.read_text())
    stat = path.stat()
    known["files"]["faiss.index"] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    note.write_text(json.dumps(known))
    builds.verify(builds.current_manifest())
    with pytest.raises(BuildError, match="not the file"):
        builds.verify(builds.current_manifest(), anew=True)


def test_looks_lie_by_label_and_are_found_by_row(add_product: AddProduct) -> None:
    for number, category in enumerate(["Shoes", "Apparel", "Shoes", "Apparel"]):
        add_product(f"p{number}", (number * 40, 100, 0), category=category)
    build_index()
    build = serving.get_index().build
    labels = dict(Product.objects.values_list("embedding_row", "category"))
    assert [labels[row] for row in build.rows.tolist()] == ["Apparel", "Apparel", "Shoes", "Shoes"]
    positions = build.positions_of(build.rows[::-1])
    assert positions.tolist() == [3, 2, 1, 0]
    assert build.positions_of(np.array([10**9, -1])).tolist() == [-1, -1]


def test_a_broken_new_build_leaves_the_former_one_answering(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    first = build_index()
    serving.get_index()
    add_product("new", (190, 0, 10))
    build_index()
    (current_folder() / "faiss.index").write_bytes(b"")
    assert serving.get_index().build.manifest.id == first.index
    assert "faiss.index" in str(serving.serving_error())


def test_the_next_build_mends_a_broken_one(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    (current_folder() / "faiss.index").write_bytes(b"")
    assert build_index().changed
    assert serving.get_index().count == 4
    assert serving.serving_error() is None


def test_younger_products_are_found_before_the_next_build(
    reds_and_blues: dict[str, Product], add_product: AddProduct, settings: Any
) -> None:
    build_index()
    scarlet = add_product("scarlet", (202, 2, 2))
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]
    embed_without_building()
    assert found(reds_and_blues["red"])[0] == "scarlet"
    assert found(scarlet)[0] == "red"


def test_a_changed_picture_is_right_in_the_next_answer(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    give_picture(reds_and_blues["blue"], png((201, 1, 1)))
    assert "blue" not in found(reds_and_blues["red"])  # its old picture is no longer its look
    embed_without_building()
    assert found(reds_and_blues["red"])[0] == "blue"


def test_the_manifest_tells_what_the_build_is_made_of(reds_and_blues: dict[str, Product]) -> None:
    report = build_index()
    manifest = json.loads((current_folder() / "manifest.json").read_text())
    assert manifest["id"] == report.index
    assert manifest["model"] == "toy"
    assert manifest["count"] == 4
    assert manifest["metric"] == "inner product"
    assert set(manifest["files"]) == {"faiss.index", "rows.npy", "digests.npy", "order.npy"}
    assert all(len(file["sha256"]) == 64 for file in manifest["files"].values())


def test_three_builds_are_kept(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    for number in range(5):
        add_product(f"more-{number}", (number, 100, 0))
        last = build_index()
    folders = sorted(path.name for path in builds_dir().glob("[0-9]*"))
    assert len(folders) == 3
    assert {path.stem for path in builds_dir().glob("verified/*.json")} >= {*folders}
    assert last.index in folders


def test_a_second_builder_is_told_who_is_at_it(reds_and_blues: dict[str, Product]) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with build_lock():
            held.set()
            done.wait(PATIENCE_S)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert held.wait(PATIENCE_S)
        with pytest.raises(BuilderBusy, match=r"by process \d+ on"):
            build_index()
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"nowhere", b"nowhere abc", b"a b c"])
def test_a_damaged_current_is_refused_in_words_and_mended(reds_and_blues: dict[str, Product], content: bytes) -> None:
    build_index()
    builds.current_path().write_bytes(content)
    with pytest.raises(BuildError, match="build_index"):
        serving.get_index()
    assert build_index().changed
    assert serving.get_index().count == 4


def test_current_as_a_folder_is_refused_in_words(reds_and_blues: dict[str, Product]) -> None:
    builds.current_path().mkdir(parents=True)
    with pytest.raises(BuildError, match="build_index"):
        serving.get_index()


def test_mending_a_broken_build_keeps_its_model(reds_and_blues: dict[str, Product], settings: Any) -> None:
    settings.SIMILARITY = {**settings.SIMILARITY, "MODEL": ""}
    build_index("toy")
    builds.current_path().write_bytes(b"")
    assert chosen_model() == "toy"
    (path,) = builds_dir().glob("*/manifest.json")
    path.write_text("{")
    with pytest.raises(BuildError, match="--model NAME"):
        chosen_model()


def test_an_engine_that_cannot_be_had_is_refused_in_words(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    manifest = builds.current_manifest()
    path = current_folder() / "manifest.json"
    path.write_text(path.read_text().replace(manifest.engine, "similarity.indexes.gone.Index"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    builds.current_path().write_text(f"{manifest.id} {sha256}")
    with pytest.raises(BuildError, match=r"gone.*build_index"):
        serving.get_index()


def test_products_embedded_over_an_empty_index_wait(add_product: AddProduct, db: None) -> None:
    build_index()
    red = add_product("red", (200, 0, 0))
    embed_without_building()
    assert similar_to(red).waiting
    build_index()
    assert not similar_to(red).waiting


def test_pictures_that_are_gone_leave_no_tail(reds_and_blues: dict[str, Product]) -> None:
    for shade in range(5):
        for product in reds_and_blues.values():
            give_picture(product, png((product.pk % 200, shade, 7)))
        build_index()
        assert len(serving.get_index().tail().rows) == 0


def test_a_space_that_holds_mostly_what_is_gone_is_compacted(reds_and_blues: dict[str, Product]) -> None:
    for shade in range(20):
        for product in reds_and_blues.values():
            give_picture(product, png((product.pk % 200, shade, 7)))
        build_index()
    held = [len(space.read().rows) for space in serving.get_index()._spaces.values()]
    assert max(held) <= 4 + 32 + 4
    assert serving.get_index().count == 4


def test_a_damaged_vector_is_made_anew_by_the_next_build(reds_and_blues: dict[str, Product]) -> None:
    build_index()
    before = similar_to(reds_and_blues["red"]).to_json()
    (vectors,) = Path(serving.get_index()._spaces["style"].folder).glob("vectors-*.f32")
    content = bytearray(vectors.read_bytes())
    content[:4] = b"\x00\x00\xc0\x7f"  # not a number
    vectors.write_bytes(content)
    report = build_index()
    assert (report.embedded, report.changed) == (1, True)
    assert similar_to(reds_and_blues["red"]).to_json() == before


def test_spaces_that_cannot_be_read_leave_the_index_answering(
    reds_and_blues: dict[str, Product], settings: Any
) -> None:
    build_index()
    folder = Path(settings.SIMILARITY["SPACES_DIR"])
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("a file where a folder should be")
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]

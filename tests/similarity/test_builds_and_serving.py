"""A build is served whole or not at all, and a new one is noticed without a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog.models import Product
from similarity import builds, serving
from similarity.building import build_index
from similarity.builds import BuilderBusy, BuildError, NoBuild, build_lock, builds_dir
from similarity.services import similar_to
from tests.similarity.conftest import AddProduct, give_picture, png


def found(product: Product) -> list[str]:
    return [match.product.product_id for match in similar_to(product).matches]


def current_folder() -> Path:
    return builds_dir() / builds.current_id()


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


@pytest.mark.parametrize("name", ["faiss.index", "rows.npy", "digests.npy"])
def test_a_flipped_byte_in_any_file_is_refused(reds_and_blues: dict[str, Product], name: str) -> None:
    build_index()
    path = current_folder() / name
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BuildError, match=rf"{name} is not the file.*build_index"):
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
    with pytest.raises(BuildError, match=r"rows.npy"):
        serving.get_index()


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


def embed_without_building() -> None:
    """What a killed `build_index` leaves: vectors in the spaces, and the former build."""
    from django.conf import settings

    from similarity import pipeline, products
    from similarity.embedders import get_embedder
    from similarity.spaces import Space

    embedders = {"style": get_embedder("toy"), "colour": get_embedder("colour")}
    root = Path(settings.SIMILARITY["SPACES_DIR"])
    spaces = {part: Space(root, embedder.identity()) for part, embedder in embedders.items()}
    work = pipeline.plan_work(products.current_pictures(), spaces)
    with spaces["style"].writing() as style, spaces["colour"].writing() as colour:
        assert sum(batch.embedded for batch in pipeline.embed(work, embedders, {"style": style, "colour": colour}))


def test_the_manifest_tells_what_the_build_is_made_of(reds_and_blues: dict[str, Product]) -> None:
    report = build_index()
    manifest = json.loads((current_folder() / "manifest.json").read_text())
    assert manifest["id"] == report.index
    assert manifest["model"] == "toy"
    assert manifest["count"] == 4
    assert manifest["metric"] == "inner product"
    assert set(manifest["files"]) == {"faiss.index", "rows.npy", "digests.npy"}
    assert all(len(file["sha256"]) == 64 for file in manifest["files"].values())


def test_three_builds_are_kept(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    for number in range(5):
        add_product(f"more-{number}", (number, 100, 0))
        last = build_index()
    folders = sorted(path.name for path in builds_dir().iterdir() if path.is_dir())
    assert len(folders) == 3
    assert last.index in folders


def test_a_second_builder_is_told_who_is_at_it(reds_and_blues: dict[str, Product]) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with build_lock():
            held.set()
            done.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert held.wait(10)
        with pytest.raises(BuilderBusy, match=r"by process \d+ on"):
            build_index()
    finally:
        done.set()
        other.join()

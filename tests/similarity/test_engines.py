"""An engine on a server serves the whole product as FAISS does; away, it takes nothing with it; looks move between."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import Client

from catalog.models import Product
from catalog.no_room import is_no_room, sentence
from similarity import moving, serving
from similarity.building import build_index
from similarity.builds import BuildError, builds_dir, current_manifest, open_build
from similarity.indexes import VectorIndexError, get_engine, served
from similarity.indexes.base import EngineAway
from similarity.moving import move_index
from similarity.publishing import publish, remove_build, roll_back, stored_builds
from similarity.refining import Refinement
from similarity.services import SimilarityUnavailable, index_status, similar_to
from tests.engines import MILVUS, PGVECTOR, SERVED, VECTORS, looks_in, need_milvus, need_postgres, vectors_at
from tests.milvus import milvus
from tests.postgres import postgres
from tests.processes import until
from tests.similarity.conftest import AddProduct, embed_without_building
from tests.similarity.test_builds_and_serving import found

pytestmark = pytest.mark.slow


@pytest.fixture(params=SERVED, ids=["pgvector", "milvus"])
def backend(request: pytest.FixtureRequest) -> str:
    """Where `build_index` may keep its looks; its server is there."""
    path: str = request.param
    request.getfixturevalue("in_postgres" if path == PGVECTOR else "in_milvus")
    return path


def held_on_server() -> set[str]:
    """Names of what lies on the servers."""
    names: set[str] = set()
    if VECTORS in connections.settings:
        names |= {name for name in connections[VECTORS].introspection.table_names() if name.startswith(served.PREFIX)}
    if uri := django_settings.SIMILARITY["INDEX"]["MILVUS"]["URI"]:
        from pymilvus import MilvusClient

        names |= set(MilvusClient(uri=uri).list_collections())
    return names


def named_by_builds() -> set[str]:
    notes = [*builds_dir().glob("[0-9]*/pgvector.json"), *builds_dir().glob("[0-9]*/milvus.json")]
    return {json.loads(note.read_text())["name"] for note in notes}


def test_the_whole_way(
    backend: str, settings: Any, reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    before = held_on_server()
    looks_in(settings, backend)
    report = build_index()
    assert current_manifest().engine == backend
    red = reds_and_blues["red"]
    assert found(red) == ["rose", "plum", "blue"]
    by_colour = similar_to(red, mix={"style": 0.0, "colour": 1.0}).matches
    assert sorted(match.score or 0.0 for match in by_colour) == pytest.approx(of_exact(red, "colour"), abs=1e-5)
    # What is younger than the build, and what is gone from the catalogue.
    add_product("young", (190, 10, 10))
    embed_without_building()
    assert found(red) == ["young", "rose", "plum", "blue"]
    reds_and_blues["plum"].delete()
    assert found(red) == ["young", "rose", "blue"]
    # Filters.
    Product.objects.filter(product_id__in=["rose", "blue"]).update(gender="Women")
    only = Refinement(only={"gender": ("Women",)}, relax=False)
    assert [match.product.product_id for match in similar_to(red, refinement=only).matches] == ["rose", "blue"]
    # The next build has all of it, and what no build names any more is given back.
    again = build_index()
    assert again.changed
    assert found(red) == ["young", "rose", "blue"]
    remove_build(report.index)
    assert held_on_server() - before == named_by_builds()
    assert not build_index().changed


def test_an_empty_catalogue(backend: str, settings: Any, db: None, add_product: AddProduct) -> None:
    looks_in(settings, backend)
    build_index()
    product = add_product("first", (1, 2, 3))
    assert similar_to(product).waiting
    build_index()
    assert found(product) == []


def of_exact(product: Product, part: str) -> list[float]:
    """The scores of all others by one part alone, ascending, as NumPy has them."""
    live = serving.get_index()
    looks = live.build.index.chunk(0, live.count)[:, live.build.layout.slices[part]]
    looks = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    own = live.build.position_of(product.embedding_row or 0)
    return sorted(np.delete(looks @ looks[own], own).tolist())


class Away:
    """A server that a test stops and starts."""

    def __init__(self, stop: Callable[[], None], start: Callable[[], None]) -> None:
        self.stop, self.start = stop, start


@contextmanager
def own_postgres(settings: Any) -> Iterator[Away]:
    need_postgres()
    with postgres() as server, vectors_at(server.url):  # one that keeps what it has
        looks_in(settings, PGVECTOR, DATABASE=VECTORS)
        yield Away(lambda: server.stop("immediate"), server.start)


@contextmanager
def own_milvus(settings: Any) -> Iterator[Away]:
    need_milvus()
    with milvus() as server:
        looks_in(settings, MILVUS, MILVUS={"URI": server.uri, "TOKEN": ""})
        yield Away(server.kill, server.start)


@pytest.mark.parametrize("backend", SERVED, ids=["pgvector", "milvus"])
def test_a_server_that_is_away_empties_the_panel_and_is_told_of_until_it_is_back(
    backend: str,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    reds_and_blues: dict[str, Product],
    django_db_blocker: Any,
) -> None:
    monkeypatch.setattr(served, "AWAY_S", 0.2)
    client, red = Client(), reds_and_blues["red"]
    with django_db_blocker.unblock(), own_postgres(settings) if backend == PGVECTOR else own_milvus(settings) as server:
        build_index()
        assert found(red) == ["rose", "plum", "blue"]
        assert client.get("/readyz").status_code == 200
        server.stop()
        with pytest.raises(SimilarityUnavailable, match="does not answer"):
            similar_to(red)
        page = client.get("/products/red/")
        assert page.status_code == 200
        assert "being prepared" in page.content.decode()
        assert client.get("/api/v1/products/red/similar/").status_code == 503
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "answer" in ready.json()["trouble"]["index"]
        assert index_status().state == "broken"
        with pytest.raises(VectorIndexError, match="answer"):
            build_index(full=True)
        server.start()
        until(lambda: client.get("/readyz").status_code == 200)
        assert found(red) == ["rose", "plum", "blue"]
        assert 'class="card' in client.get("/products/red/").content.decode()


def test_a_disk_without_room_is_told_of_before_anything_is_made(
    in_postgres: None, settings: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    before = held_on_server()
    try:
        settings.SIMILARITY = {**settings.SIMILARITY, "BUILDS_DIR": disk / "builds"}
        with pytest.raises(OSError, match=str(disk)) as refused:
            get_engine("pgvector").build(np.ones((4096, 128), dtype=np.float32))
        assert is_no_room(refused.value)
        assert str(disk) in sentence(refused.value)
        assert held_on_server() == before
        assert get_engine("pgvector").build(np.ones((64, 128), dtype=np.float32)).count == 64
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_what_a_transaction_takes_back_of_the_effort_is_set_again(in_postgres: None) -> None:
    engine: Any = get_engine("pgvector")
    looks = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    index = engine.build(looks, factory="HNSW16")

    def effort() -> str:
        with connections[VECTORS].cursor() as cursor:
            cursor.execute("SHOW hnsw.ef_search")
            return str(cursor.fetchone()[0])

    def ask(k: int) -> str:
        index.search(looks[:1], k)
        return effort()

    with pytest.raises(KeyboardInterrupt), transaction.atomic(using=VECTORS):
        assert ask(100) == "400"
        raise KeyboardInterrupt
    assert effort() != "400"
    assert ask(100) == "400"
    # What was remembered before holds within and after a transaction that changes it and is rolled back.
    with pytest.raises(KeyboardInterrupt), transaction.atomic(using=VECTORS):
        assert ask(50) == "200"
        raise KeyboardInterrupt
    assert ask(50) == "200"
    assert ask(100) == "400"


def test_a_note_that_names_something_else_is_refused(in_postgres: None, tmp_path: Path) -> None:
    note = {"name": "auth_user", "owner": "me", "count": 1, "dimension": 2, "factory": "Flat", "effort": None}
    (tmp_path / "pgvector.json").write_text(json.dumps(note))
    with pytest.raises(VectorIndexError, match="auth_user"):
        get_engine("pgvector").load(tmp_path)
    note["name"] = served.PREFIX + "0123"
    (tmp_path / "pgvector.json").write_text(json.dumps(note))
    with pytest.raises(VectorIndexError, match="is not there"):
        get_engine("pgvector").load(tmp_path)


# --- moving ------------------------------------------------------------------------------------
@pytest.fixture
def many(db: None, add_product: AddProduct) -> Product:
    """Thirty products, and one to ask with."""
    for number in range(29):
        add_product(f"p{number}", (8 * number, 255 - 8 * number, (37 * number) % 255))
    return add_product("asked", (10, 200, 30))


def test_looks_move_to_a_server_and_back_without_a_break(backend: str, settings: Any, many: Product) -> None:
    build_index()
    answers = found(many)
    former = current_manifest()
    moved = move_index("pgvector" if backend == PGVECTOR else "milvus")
    assert (moved.looks, moved.published) == (30, False)
    assert moved.agreement == moving.Agreement(30, 30, 1.0)
    assert current_manifest().id == former.id
    publish(next(build.manifest for build in stored_builds() if build.manifest.id == moved.index))
    assert serving.get_index().build.manifest.engine == backend
    assert found(many) == answers
    # As the settings are, it is current; as they were, it would be made anew.
    looks_in(settings, backend)
    assert not build_index().changed
    roll_back()
    assert found(many) == answers
    back = move_index(backend, publishing=True)
    assert current_manifest().id == back.index
    call_command("move_index", "--to", "exact", "--publish")
    assert current_manifest().engine == "similarity.indexes.exact.ExactIndex"
    assert found(many) == answers


def test_who_was_stopped_while_moving_goes_on_and_nothing_is_there_twice(
    backend: str, many: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index()
    before = held_on_server()
    monkeypatch.setattr(moving, "_CHUNK", 10)

    def stop(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_index(backend, progress=stop)
    assert len(held_on_server() - before) == 1
    begun = held_on_server()
    inserted: list[int] = []
    engine = get_engine(backend)
    insert = engine._insert  # type: ignore[attr-defined]

    def noted(self: Any, start: int, lines: Any) -> None:
        inserted.append(start)
        insert(self, start, lines)

    monkeypatch.setattr(engine, "_insert", noted)
    moved = move_index(backend, publishing=True)
    assert inserted == [20]
    assert held_on_server() == begun
    index = open_build(current_manifest()).index
    assert index.count == 30
    former = next(each.manifest for each in stored_builds() if each.manifest.id == moved.former)
    np.testing.assert_allclose(index.chunk(0, 30), open_build(former).index.chunk(0, 30), atol=1e-6)
    assert not (builds_dir() / "unfinished-move").exists()


def test_what_was_begun_of_another_index_is_given_back(
    backend: str, many: Product, add_product: AddProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index()
    before = held_on_server()
    monkeypatch.setattr(moving, "_CHUNK", 10)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_index(backend, progress=stop)
    add_product("new", (9, 9, 9))
    build_index()
    assert move_index(backend).looks == 31
    assert held_on_server() - before == named_by_builds()


def test_what_was_begun_by_an_engine_that_is_not_gone_on_with_is_given_back(
    backend: str, many: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index()
    before = held_on_server()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_index(backend, progress=stop)
    assert len(held_on_server() - before) == 1
    move_index("exact")
    assert held_on_server() == before


def test_a_move_that_makes_no_sense_is_refused(many: Product) -> None:
    with pytest.raises(CommandError, match="No index has been built yet"):
        call_command("move_index", "--to", "exact")
    build_index()
    with pytest.raises(BuildError, match="already"):
        move_index("faiss")
    with pytest.raises(CommandError, match="nowhere"):
        call_command("move_index", "--to", "nowhere.Engine")


def test_an_engine_that_answers_otherwise_is_not_moved_to(many: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index()
    engine = get_engine("exact")
    monkeypatch.setattr(
        engine, "_search", lambda self, queries, k, among: (np.zeros((1, k), np.int64), np.zeros((1, k), np.float32))
    )
    with pytest.raises(BuildError, match="Nothing was changed"):
        move_index("exact")
    assert len(stored_builds()) == 1


def test_of_a_server_that_says_nothing_one_waits_once_and_the_others_are_told_at_once(
    settings: Any, django_db_blocker: Any
) -> None:
    """As a host does that has vanished: nothing refuses, and nothing comes."""
    need_postgres()
    engine: Any = get_engine("pgvector")

    def ask() -> float:
        began = time.monotonic()
        with pytest.raises(EngineAway):
            engine._ask(lambda: connections[VECTORS].cursor().execute("SELECT 1"))
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as another:
        address = f"postgres://somebody@127.0.0.1:{silent.getsockname()[1]}/looks"
        with django_db_blocker.unblock(), vectors_at(address):
            looks_in(settings, PGVECTOR, DATABASE=VECTORS)
            assert 4 < ask() < 9.5, "the five seconds of connecting are waited for once"
            assert ask() < 4
            time.sleep(served.AWAY_S)
            first = another.submit(ask)
            until(lambda: math.inf in served.ServedIndex._away_until.values())
            assert ask() < 4, "one finds out whether it is back"
            assert first.result() > 4
    served.ServedIndex._away_until.clear()

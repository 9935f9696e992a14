"""Work in the background: what is asked for, by whom it is done, and what is left when a worker is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django_tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from catalog import images
from catalog.models import ApiKey, Product
from similarity import services, tasks, working
from similarity.building import build_index
from similarity.builds import BuilderBusy, build_lock, current_manifest, current_path
from similarity.pipeline import Batch
from similarity.services import index_status, similar_to
from similarity.serving import get_index
from similarity.working import MOST_ATTEMPTS, Reporter, heartbeat, living_workers, take_over
from tests.conftest import DEMO_CATALOGUE
from tests.processes import PATIENCE_S, until
from tests.similarity.conftest import AddProduct, give_picture, png

RED, BLUE = (200, 0, 0), (0, 0, 200)


@pytest.fixture
def shop(transactional_db: None, add_product: AddProduct) -> Iterator[dict[str, Product]]:
    """Three products, built, and nothing waiting for a worker."""
    products = {
        "red": add_product("red", RED),
        "grey": add_product("grey", (90, 90, 90)),
        "blue": add_product("blue", BLUE),
    }
    build_index()
    DBTaskResult.objects.all().delete()
    yield products


def work_off() -> None:
    """What a worker does until nothing is left, in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)}
    try:
        call_command("worker", "--batch", verbosity=0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def best_match(product: Product) -> str:
    return similar_to(product).matches[0].product.product_id


# --- what is asked for -------------------------------------------------------------------------
def test_a_changed_picture_answers_rightly_without_a_build(shop: dict[str, Product]) -> None:
    build = current_path().read_bytes()
    give_picture(shop["grey"], png((190, 10, 10)))
    work_off()
    assert best_match(shop["red"]) == "grey"
    assert best_match(shop["grey"]) == "red"
    assert current_path().read_bytes() == build
    assert tasks.recent()[0].outcome == {"embedded": 1, "failed": 0}


def test_a_new_product_is_found_without_a_build(shop: dict[str, Product], add_product: AddProduct) -> None:
    add_product("rose", (210, 20, 20))
    assert index_status().waiting == 1
    work_off()
    assert index_status().waiting == 0
    assert best_match(shop["red"]) == "rose"


def test_many_changes_are_one_task_until_it_begins(shop: dict[str, Product]) -> None:
    for product in shop.values():
        give_picture(product, png((1, 2, product.pk % 200)))
    images.renew_rows(Product.objects.all())
    assert [work.name for work in tasks.recent()] == ["embed_waiting"]
    work_off()
    assert tasks.recent()[0].outcome["embedded"] == 3
    give_picture(shop["red"], png((9, 9, 9)))
    assert [work.state for work in tasks.recent()] == ["waiting", "done"]


def test_a_change_that_is_taken_back_asks_for_nothing(shop: dict[str, Product]) -> None:
    with transaction.atomic():
        give_picture(shop["red"], png((9, 9, 9)))
        transaction.set_rollback(True)
    assert tasks.recent() == []


def test_the_same_picture_again_asks_for_nothing(shop: dict[str, Product]) -> None:
    give_picture(shop["red"], png(RED))
    assert tasks.recent() == []


def test_an_import_asks_for_nothing(transactional_db: None) -> None:
    folder = DEMO_CATALOGUE
    call_command("import_fashion", str(folder / "fashion.csv"), "--images", str(folder / "images"), "--limit", "2")
    assert Product.objects.with_image().count() == 2
    assert tasks.recent() == []


def test_the_first_picture_makes_the_first_build(transactional_db: None, add_product: AddProduct) -> None:
    add_product("red", RED)
    work_off()
    assert get_index().count == 1
    assert tasks.recent()[0].outcome["looks"] == 1


def test_a_build_of_nothing_cannot_take_in_younger_ones_so_there_is_a_new_one(
    transactional_db: None, add_product: AddProduct
) -> None:
    build_index()
    add_product("red", RED)
    work_off()
    assert get_index().count == 1


def test_embeddings_of_another_kind_need_a_build(shop: dict[str, Product], settings: Any) -> None:
    before = current_manifest().id
    toy = settings.SIMILARITY["EMBEDDERS"]["toy"]
    again = {**toy, "OPTIONS": {"revision": "2"}}
    settings.SIMILARITY = {**settings.SIMILARITY, "EMBEDDERS": {**settings.SIMILARITY["EMBEDDERS"], "toy": again}}
    give_picture(shop["grey"], png((190, 10, 10)))
    work_off()
    assert current_manifest().id != before
    assert best_match(shop["red"]) == "grey"


def test_asked_twice_it_is_built_once(shop: dict[str, Product], add_product: AddProduct) -> None:
    add_product("rose", (210, 20, 20))
    assert tasks.build_soon().id == tasks.build_soon().id
    work_off()
    built = next(work for work in tasks.recent() if work.name == "embed_and_build")
    assert (built.state, built.outcome["looks"], built.outcome["changed"]) == ("done", 4, True)
    assert get_index().count == 4


def test_what_goes_wrong_is_told_in_its_own_words(shop: dict[str, Product]) -> None:
    tasks.build_soon(model="colour")
    work_off()
    work = tasks.recent()[0]
    assert work.state == "failed"
    assert work.trouble == "colour is a part of every look already; name a network as the model."


def test_a_task_waits_for_somebody_elses_build() -> None:
    holding, free = threading.Event(), threading.Event()

    def build() -> None:
        with build_lock():
            holding.set()
            free.wait(PATIENCE_S)

    other = threading.Thread(target=build)
    other.start()
    assert holding.wait(PATIENCE_S)
    with pytest.raises(BuilderBusy), build_lock():
        pass
    threading.Timer(0.2, free.set).start()
    with build_lock(wait_s=PATIENCE_S):
        assert free.is_set()
    other.join()


# --- when a build is due -----------------------------------------------------------------------
@pytest.fixture
def rebuilding(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two looks beside a build of three are many."""
    monkeypatch.setattr(services, "LEAST_YOUNG", 1)

    def how(*, auto: bool) -> None:
        settings.SIMILARITY = {**settings.SIMILARITY, "REBUILD": {"SHARE": 0.5, "AUTO": auto}}

    return how


def test_whoever_runs_it_is_told_when_many_looks_are_younger_than_the_build(
    shop: dict[str, Product],
    add_product: AddProduct,
    rebuilding: Any,
    caplog: pytest.LogCaptureFixture,
    admin_client: Client,
) -> None:
    rebuilding(auto=False)
    before = current_manifest().id
    add_product("one", (210, 0, 0))
    work_off()
    assert (index_status().young, index_status().is_rebuild_due) == (1, False)
    assert "1 look is younger than the index and answers beside it" in admin_page(admin_client)
    add_product("two", (0, 210, 0))
    work_off()
    assert index_status().is_rebuild_due
    assert tasks.REBUILD_DUE in caplog.messages
    assert "2 looks are younger than the index, and each is compared" in admin_page(admin_client)
    assert current_manifest().id == before


def admin_page(client: Client) -> str:
    return client.get("/admin/similarity/indexbuild/").content.decode()


def test_where_that_is_set_the_worker_builds_by_itself(
    shop: dict[str, Product], add_product: AddProduct, rebuilding: Any
) -> None:
    rebuilding(auto=True)
    before = current_manifest().id
    for name, colour in (("one", (210, 0, 0)), ("two", (0, 210, 0))):
        add_product(name, colour)
        work_off()
    assert current_manifest().id != before
    assert (index_status().young, index_status().waiting) == (0, 0)
    assert get_index().count == 5


# --- how far it is -----------------------------------------------------------------------------
def test_progress_is_told_while_a_task_runs(shop: dict[str, Product]) -> None:
    task = tasks.build_soon()
    with heartbeat("somebody"), Reporter(task.id) as reporter:
        DBTaskResult.objects.update(status=TaskResultStatus.RUNNING, worker_ids=["somebody"])
        seen = []
        for _ in reporter(iter([Batch(2, 1), Batch(4, 0)]), 7):
            work = tasks.find(task.id)
            assert work
            assert work.progress
            seen.append((work.state, work.progress.stage, work.progress.done, work.progress.total))
        assert seen[0] == ("running", "embedding", 3, 7)
        work = tasks.find(task.id)
        assert work
        assert work.progress
        assert work.progress.stage == "building"
    work = tasks.find(task.id)
    assert work
    assert work.progress is None


# --- who is alive ------------------------------------------------------------------------------
def test_a_worker_is_alive_while_it_gives_signs(data_dir: Path) -> None:
    assert living_workers() == set()
    with heartbeat("one"):
        until(lambda: living_workers() == {"one"})
    assert living_workers() == set()
    sign = data_dir / "work" / "worker-two"
    sign.touch()
    long_ago = time.time() - working.ALIVE_S - 1
    os.utime(sign, (long_ago, long_ago))
    assert living_workers() == set()


def test_what_a_dead_worker_left_is_begun_again(shop: dict[str, Product], add_product: AddProduct) -> None:
    add_product("rose", (210, 20, 20))
    DBTaskResult.objects.update(status=TaskResultStatus.RUNNING, worker_ids=["dead"])
    assert [work.state for work in tasks.recent()] == ["interrupted"]
    work_off()
    assert [work.state for work in tasks.recent()] == ["done"]
    assert best_match(shop["red"]) == "rose"


def test_what_a_living_worker_does_is_left_to_it(shop: dict[str, Product]) -> None:
    tasks.build_soon()
    with heartbeat("alive"):
        DBTaskResult.objects.update(status=TaskResultStatus.RUNNING, worker_ids=["alive"])
        assert take_over() == 0
        assert [work.state for work in tasks.recent()] == ["running"]


def test_a_task_that_takes_every_worker_with_it_is_given_up(shop: dict[str, Product]) -> None:
    tasks.build_soon()
    DBTaskResult.objects.update(status=TaskResultStatus.RUNNING, worker_ids=["dead"] * MOST_ATTEMPTS)
    assert take_over() == 0
    work = tasks.recent()[0]
    assert (work.state, work.trouble) == ("failed", f"The worker was lost {MOST_ATTEMPTS} times while it was at it.")


# --- over HTTP ---------------------------------------------------------------------------------
def key(**scopes: bool) -> dict[str, str]:
    return {"authorization": f"Api-Key {ApiKey.objects.create_key(name='test', **scopes)[1]}"}


def test_a_build_is_asked_for_over_http_and_followed(
    client: Client, shop: dict[str, Product], add_product: AddProduct
) -> None:
    add_product("rose", (210, 20, 20))
    headers = key(products=False, builds=True)
    asked = client.post("/api/v1/builds/", headers=headers)
    assert asked.status_code == 202
    assert (asked.json()["state"], asked.json()["is_anybody_working"]) == ("waiting", False)
    assert client.post("/api/v1/builds/", headers=headers).json()["id"] == asked.json()["id"]
    where = asked.headers["Location"]
    assert client.get(where, headers=headers).json() == asked.json()
    work_off()
    done = client.get(where, headers=headers).json()
    assert (done["state"], done["outcome"]["looks"], done["trouble"]) == ("done", 4, "")
    assert done["outcome"]["index"] == client.get("/api/v1/builds/", headers=headers).json()["current"]


def test_who_has_no_key_for_builds_has_none_made(client: Client, shop: dict[str, Product]) -> None:
    work = tasks.build_soon()
    for headers, status in (({}, 401), (key(products=True, builds=False), 403)):
        assert client.post("/api/v1/builds/", headers=headers).status_code == status
        assert client.get(f"/api/v1/tasks/{work.id}/", headers=headers).status_code == status
    assert len(tasks.recent()) == 1


def test_a_task_of_another_kind_is_none_of_ours(client: Client, shop: dict[str, Product]) -> None:
    headers = key(products=False, builds=True)
    assert client.get("/api/v1/tasks/00000000-0000-0000-0000-000000000000/", headers=headers).status_code == 404

"""Builds of several models lie side by side; one answers, and which one is switched and gone back on in one step."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from catalog.models import Product
from similarity import building, builds, publishing, serving
from similarity.building import build_index
from similarity.builds import BuildError, build_lock, builds_dir, current_path, default_name
from similarity.publishing import remove_build, roll_back, stored_builds, use_build
from similarity.services import index_status, similar_to
from similarity.spaces import Space
from tests.processes import PATIENCE_S, forked
from tests.similarity.conftest import AddProduct, embed_without_building, give_picture, png
from tests.similarity.test_builds_and_serving import found


@pytest.fixture(autouse=True)
def second_model(settings: Any, toy_model: None) -> None:
    """`other` sees what `toy` sees, into a space of its own."""
    embedders = dict(settings.SIMILARITY["EMBEDDERS"])
    embedders["other"] = {"BACKEND": "tests.similarity.toy.MeanColourEmbedder", "OPTIONS": {"revision": "2"}}
    settings.SIMILARITY = {**settings.SIMILARITY, "MODEL": "", "EMBEDDERS": embedders}


def current() -> str:
    return builds.current_manifest().id


def serving_now() -> str:
    """What this process answers from: it has been serving all along."""
    return serving.get_index().build.manifest.id


def folders() -> set[str]:
    return {path.name for path in builds_dir().glob("[0-9]*")}


def test_two_models_lie_side_by_side_and_a_serving_process_sees_switch_and_rollback(
    reds_and_blues: dict[str, Product],
) -> None:
    one = build_index("toy").index
    two = build_index("other").index
    assert serving_now() == two
    use_build("toy")
    assert serving_now() == one
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]
    assert roll_back().id == two
    assert serving_now() == two


@pytest.mark.django_db(transaction=True)
def test_another_process_notices_a_switch(reds_and_blues: dict[str, Product]) -> None:
    """Forked, as gunicorn forks its workers: it asks, the switch happens here, it asks again."""
    one, two = build_index("toy").index, build_index("other").index
    here, there = multiprocessing.Pipe()

    def worker() -> None:
        for _ in range(3):
            there.recv()
            there.send(serving_now())

    process = forked(worker)
    try:
        seen = []
        for step in (lambda: None, lambda: use_build(one), roll_back):
            step()
            here.send("ask")
            assert here.poll(PATIENCE_S)
            seen.append(here.recv())
    finally:
        process.join(PATIENCE_S)
    assert seen == [two, one, two]


def test_going_back_again_goes_further_back(reds_and_blues: dict[str, Product]) -> None:
    ids = [build_index("toy", name=name).index for name in ("a", "b", "c")]
    assert [roll_back().id, roll_back().id] == [ids[1], ids[0]]
    with pytest.raises(BuildError, match=r"published before.*manage.py builds"):
        roll_back()
    assert current() == ids[0]
    assert folders() == set(ids)


def test_a_build_that_was_held_back_answers_nobody_until_it_is_used(reds_and_blues: dict[str, Product]) -> None:
    one = build_index("toy").index
    held = build_index("other", hold=True)
    assert (held.built, held.published, serving_now()) == (True, False, one)
    use_build("other")
    assert serving_now() == held.index
    assert roll_back().id == one


def test_building_what_was_held_back_publishes_that_very_build(reds_and_blues: dict[str, Product]) -> None:
    build_index("toy")
    held = build_index("other", hold=True)
    again = build_index("other", hold=True)
    assert (again.index, again.built, again.changed) == (held.index, False, False)
    now = build_index("other")
    assert (now.index, now.built, now.changed, now.published) == (held.index, False, True, True)
    assert serving_now() == held.index


def test_a_build_that_is_still_right_stays_though_younger_ones_are_stored(reds_and_blues: dict[str, Product]) -> None:
    one = build_index("toy").index
    build_index("other")
    roll_back()
    report = build_index()
    assert (report.model, report.index, report.changed) == ("toy", one, False)


def test_after_going_back_the_next_build_publishes_what_the_catalogue_is_now(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    build_index("toy")
    add_product("new", (190, 0, 10))
    second = build_index()
    roll_back()
    assert found(reds_and_blues["red"])[0] == "new"  # younger than the build: by its space
    assert build_index().index == second.index


def test_the_youngest_of_a_name_is_what_the_name_means(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    build_index("toy", name="spring")
    build_index("toy", name="summer")
    add_product("new", (190, 0, 10))
    second = build_index("toy", name="spring", hold=True).index
    assert use_build("spring").id == second


def test_a_name_is_the_models_and_then_goes_on(reds_and_blues: dict[str, Product], add_product: AddProduct) -> None:
    assert build_index("toy").name == "toy"
    assert build_index(name="spring").name == "spring"  # another name is another build
    add_product("new", (190, 0, 10))
    assert build_index().name == "spring"
    assert build_index("other").name == "other"
    assert default_name("facebook/dinov2-small") == default_name("/models/dinov2-small/") == "dinov2-small"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65, "20261122T101500-174305"])
def test_a_name_that_cannot_be_one_is_refused(reds_and_blues: dict[str, Product], name: str) -> None:
    with pytest.raises(BuildError, match="cannot be called"):
        build_index("toy", name=name)


def test_the_current_the_former_and_the_youngest_of_every_name_are_kept(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    ids = {"held": build_index("other", hold=True).index}
    for number in range(5):
        add_product(f"more-{number}", (number, 100, 0))
        ids[f"nightly {number}"] = build_index("toy").index
    assert folders() == {ids[name] for name in ("held", "nightly 4", "nightly 3", "nightly 2")}
    use_build(ids["nightly 2"])
    add_product("last", (7, 100, 0))
    younger = [build_index("toy", hold=True).index for _ in range(2)]
    assert ids["nightly 2"] in folders()  # current, however old
    assert younger[0] == younger[1]


def test_a_build_is_removed_but_never_the_current_one(reds_and_blues: dict[str, Product]) -> None:
    one, two = build_index("toy").index, build_index("other").index
    with pytest.raises(BuildError, match="is the current one"):
        remove_build("other")
    assert remove_build("toy").id == one
    assert folders() == {two}
    with pytest.raises(BuildError, match="published before"):
        roll_back()
    with pytest.raises(BuildError, match=r"no build with the name or id 'toy'; the names are: other"):
        use_build("toy")


def test_nothing_is_removed_where_nobody_can_tell_which_is_current(reds_and_blues: dict[str, Product]) -> None:
    build_index("toy")
    build_index("other")
    current_path().write_text("damaged")
    with pytest.raises(BuildError, match="damaged"):
        remove_build("toy")
    publishing.remove_superseded(but="none")
    assert len(folders()) == 2


@pytest.mark.parametrize("name", ["faiss.index", "rows.npy", "manifest.json"])
def test_a_damaged_build_is_not_switched_to(reds_and_blues: dict[str, Product], name: str) -> None:
    one, two = build_index("toy").index, build_index("other").index
    path = builds_dir() / one / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BuildError):
        use_build(one)
    with pytest.raises(BuildError):
        roll_back()
    assert serving_now() == two


def test_a_broken_current_build_is_gone_back_from(reds_and_blues: dict[str, Product]) -> None:
    one, two = build_index("toy").index, build_index("other").index
    shutil.rmtree(builds_dir() / two)
    assert roll_back().id == one
    assert serving_now() == one


def test_a_switch_does_not_wait_for_a_builder(reds_and_blues: dict[str, Product]) -> None:
    one = build_index("toy").index
    build_index("other")
    with build_lock():
        assert roll_back().id == one


def test_what_was_published_in_the_meantime_is_not_switched_away(reds_and_blues: dict[str, Product]) -> None:
    one, two = build_index("toy").index, build_index("other").index
    with pytest.raises(BuildError, match=f"in the meantime: {two}"):
        roll_back(instead_of=one)
    assert current() == two


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["replace_file", "_remove"])
def test_killed_at_any_step_the_order_is_the_former_or_the_new_one(
    reds_and_blues: dict[str, Product], add_product: AddProduct, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed before CURRENT is renamed, or after it and before anything is removed."""
    ids = []
    for number in range(3):
        add_product(f"more-{number}", (number, 100, 0))
        ids.append(build_index("toy").index)
    add_product("last", (9, 9, 9))

    def killed(*_: Any) -> None:
        os._exit(9)

    monkeypatch.setattr(publishing, step, killed)
    child = forked(build_index)
    child.join(PATIENCE_S)
    assert child.exitcode == 9
    monkeypatch.undo()
    (new,) = folders() - set(ids)
    order = [each.build_id for each in builds.publications()]
    assert order == (ids[::-1] if step == "replace_file" else [new, *ids[::-1]])
    report = build_index("toy")
    assert (report.index, report.built, serving_now()) == (new, False, new)  # what was stored is taken up
    assert folders() == {new, *ids[1:]}


def test_a_killed_removal_leaves_no_half_build(
    reds_and_blues: dict[str, Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index("toy")
    build_index("other")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    remove_build("toy")
    monkeypatch.undo()
    assert [build.manifest.name for build in stored_builds()] == ["other"]
    build_index(name="again")
    assert not list(builds_dir().glob(".unfinished-*"))


def test_a_current_of_one_line_and_a_manifest_without_name_are_understood(reds_and_blues: dict[str, Product]) -> None:
    """As they were written before builds had names."""
    build_index("toy")
    path = builds.manifest_path(current())
    content = json.loads(path.read_text())
    del content["name"]
    path.write_text(json.dumps(content))
    manifest = builds.read_manifest(content["id"])
    publishing.publish(manifest)
    assert len(current_path().read_text().splitlines()) == 1
    assert (manifest.name, serving_now()) == ("toy", content["id"])


def test_a_build_gone_back_to_finds_what_is_younger_in_a_space_that_was_made_anew(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    """The build had seen four entries; a deleted space fills again from its first entry, with others."""
    first = build_index("toy").index
    give_picture(reds_and_blues["blue"], png((0, 0, 201)))
    scarlet = add_product("scarlet", (202, 2, 2))
    shutil.rmtree(django_settings.SIMILARITY["SPACES_DIR"])
    build_index("toy")
    use_build(first)
    assert found(reds_and_blues["red"])[:2] == ["scarlet", "rose"]
    assert not similar_to(scarlet).waiting
    assert index_status().waiting == 0


def test_a_build_gone_back_to_after_its_space_was_compacted_answers_in_full(
    reds_and_blues: dict[str, Product], add_product: AddProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "STALE_VECTORS", 0)
    first = build_index("toy").index
    give_picture(reds_and_blues["rose"], png((201, 60, 60)))
    build_index("toy")
    use_build(first)
    assert found(reds_and_blues["red"]) == ["rose", "plum", "blue"]


def test_products_that_the_current_model_has_not_seen_wait_for_it(
    reds_and_blues: dict[str, Product], add_product: AddProduct
) -> None:
    one = build_index("toy").index
    build_index("other")
    scarlet = add_product("scarlet", (202, 2, 2))
    build_index()  # of `other`
    use_build(one)
    assert similar_to(scarlet).waiting
    assert index_status().waiting == 1
    embed_without_building()  # with `toy`
    assert found(scarlet)[0] == "red"


def test_building_one_model_leaves_the_space_of_the_other_alone(
    reds_and_blues: dict[str, Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "STALE_VECTORS", 0)
    build_index("toy")
    identity = builds.current_manifest().identities["style"]
    space = Space(Path(django_settings.SIMILARITY["SPACES_DIR"]), identity)
    before = space.stamp()
    for product in reds_and_blues.values():
        give_picture(product, png((product.pk % 200, 3, 7)))
    build_index("other")
    assert space.stamp() == before


class TestCommand:
    def test_it_lists_the_builds(self, reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]) -> None:
        call_command("builds")
        assert "No index has been built yet" in capsys.readouterr().out
        one, two = build_index("toy").index, build_index("other").index
        call_command("builds")
        head, first, second = capsys.readouterr().out.splitlines()
        assert head.split()[:3] == ["NAME", "MODEL", "LOOKS"]
        assert first.split()[:4] == ["*", "other", "other", "4"]
        assert second.split()[:2] == ["<", "toy"]
        assert (first.split()[-1], second.split()[-1]) == (two, one)

    def test_it_switches_goes_back_and_removes(
        self, reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two = build_index("toy").index, build_index("other").index
        call_command("builds", "--use", "toy", "--json")
        listed = json.loads(capsys.readouterr().out)["builds"]
        assert [(build["build"], build["current"], build["former"]) for build in listed] == [
            (two, False, True),
            (one, True, False),
        ]
        call_command("builds", "--rollback")
        assert f"Published index {two} (other): 4 looks of other." in capsys.readouterr().out
        call_command("builds", "--remove", one)
        assert capsys.readouterr().out == f"Removed index {one} (toy).\n"
        with pytest.raises(CommandError, match="no build with the name"):
            call_command("builds", "--use", "toy")

    def test_it_says_when_the_settings_will_undo_the_switch(
        self, reds_and_blues: dict[str, Product], settings: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        build_index("toy")
        build_index("other")
        settings.SIMILARITY = {**settings.SIMILARITY, "MODEL": "other"}
        call_command("builds", "--rollback")
        assert "VITRINE_MODEL is other: the next build_index" in capsys.readouterr().out

    def test_what_is_held_back_comes_with_the_way_to_publish_it(
        self, reds_and_blues: dict[str, Product], capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("build_index", "--model", "toy")
        capsys.readouterr()
        call_command("build_index", "--model", "other", "--name", "trial", "--hold")
        said = capsys.readouterr().out
        held = stored_builds()[0].manifest.id
        assert f"Stored index {held}: 4 looks" in said
        assert f"To publish it: python manage.py builds --use {held}" in said


def test_mending_asks_for_the_model_where_builds_of_several_are_stored(reds_and_blues: dict[str, Product]) -> None:
    build_index("toy")
    build_index("other", hold=True)
    current_path().write_text("")
    with pytest.raises(BuildError, match="--model NAME"):
        build_index()

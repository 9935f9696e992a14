"""The admin's pages: builds side by side, switched by a button; labels in doubt, corrected by another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django_tasks_db.models import DBTaskResult

from catalog.models import Product
from similarity import tasks
from similarity.building import build_index
from similarity.builds import builds_dir, current_manifest, current_path
from similarity.comparing import compare
from similarity.publishing import stored_builds
from similarity.working import heartbeat
from tests.similarity.conftest import AddProduct

pytestmark = pytest.mark.django_db

BUILDS = "admin:similarity_indexbuild_changelist"
SWITCH = "admin:similarity_indexbuild_switch"
DOUBTS = "admin:similarity_labeldoubt_changelist"
ACCEPT = "admin:similarity_labeldoubt_accept"


def staff(*permissions: str, **options: Any) -> Client:
    """Somebody of the staff with these permissions."""
    user = User.objects.create_user("clerk", is_staff=True)
    for name in permissions:
        user.user_permissions.add(Permission.objects.get(codename=name))
    client = Client(**options)
    client.force_login(user)
    return client


def page_of(client: Client, name: str, **query: Any) -> str:
    return client.get(reverse(name), query).content.decode()


def write_report(build_id: str, precision: float, plain: float = 0.5, k: int = 10) -> None:
    """As `similarity.reports` stores them."""
    path = builds_dir() / "reports" / f"{build_id}.json"
    path.parent.mkdir(exist_ok=True)
    figures = {"p_at_1": 0.9, "p_at_k": precision, "ndcg_at_k": 0.6, "map_at_k": 0.4, "queries": 20}
    report = {
        "labels": {"product_type+gender": figures},
        "baseline": {"labels": {"product_type+gender": {**figures, "p_at_k": plain}}},
        "k": k,
        "products": 4,
        "model": "toy",
    }
    path.write_text(json.dumps(report))


@pytest.fixture
def two(reds_and_blues: dict[str, Product]) -> tuple[str, str]:
    """The ids of a former and of the current build, called spring and summer."""
    return build_index(name="spring").index, build_index(name="summer").index


class TestBuilds:
    def test_it_lists_the_builds_and_is_linked_from_the_first_page(
        self, admin_client: Client, two: tuple[str, str]
    ) -> None:
        page = page_of(admin_client, BUILDS)
        assert all(part in page for part in (*two, "spring", "summer", "answers now", "answered before"))
        assert "No build here has been judged yet" in page
        assert 'style="' not in page
        assert (
            page_of(admin_client, "admin:index").count(f'href="{reverse(BUILDS)}"') >= 2
        )  # by the status, in the list

    def test_without_a_build_it_says_what_to_do(self, admin_client: Client) -> None:
        assert "manage.py build_index" in page_of(admin_client, BUILDS)

    def test_a_build_is_used_by_a_button(self, admin_client: Client, two: tuple[str, str]) -> None:
        page = admin_client.post(reverse(SWITCH), {"build": two[0], "current": two[1]}, follow=True).content.decode()
        assert f"Build spring ({two[0]}) answers now: 4 looks of toy." in page
        assert current_manifest().id == two[0]
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.get_change_message()) == (two[0], f"Published instead of {two[1]}.")
        assert f"spring ({two[0]})" in page_of(admin_client, "admin:index")  # among the recent actions

    def test_one_goes_back_to_the_former_once_for_two_clicks(self, admin_client: Client, two: tuple[str, str]) -> None:
        form = {"current": two[1]}
        admin_client.post(reverse(SWITCH), form)
        page = admin_client.post(reverse(SWITCH), form, follow=True).content.decode()
        assert f"Another build was published in the meantime: {two[0]}" in page
        assert current_manifest().id == two[0]
        assert LogEntry.objects.count() == 1

    def test_what_cannot_be_used_is_said_and_changes_nothing(self, admin_client: Client, two: tuple[str, str]) -> None:
        (builds_dir() / two[0] / "rows.npy").write_bytes(b"")
        page = admin_client.post(reverse(SWITCH), {"build": two[0], "current": two[1]}, follow=True).content.decode()
        assert "rows.npy is not the file that its manifest describes" in page
        assert current_manifest().id == two[1]
        assert not LogEntry.objects.exists()

    def test_a_damaged_current_is_told_and_mended_by_the_button(
        self, admin_client: Client, two: tuple[str, str]
    ) -> None:
        current_path().write_text("damaged")
        assert "CURRENT is damaged" in page_of(admin_client, BUILDS)
        admin_client.post(reverse(SWITCH), {"build": two[1], "current": ""})
        assert current_manifest().id == two[1]

    def test_who_may_only_look_has_no_buttons(self, two: tuple[str, str]) -> None:
        client = staff("view_indexbuild")
        page = page_of(client, BUILDS)
        assert "answers now" in page
        assert "Use this one" not in page
        assert client.post(reverse(SWITCH), {"build": two[0], "current": two[1]}).status_code == 403
        assert current_manifest().id == two[1]

    def test_staff_without_permission_sees_nothing(self, two: tuple[str, str]) -> None:
        client = staff("view_product")
        assert client.get(reverse(BUILDS)).status_code == 403
        assert reverse(BUILDS) not in page_of(client, "admin:index")

    def test_a_switch_is_a_post_with_a_token(self, two: tuple[str, str]) -> None:
        client = staff("change_indexbuild", enforce_csrf_checks=True)
        assert client.get(reverse(SWITCH)).status_code == 405
        assert client.post(reverse(SWITCH), {"build": two[0], "current": two[1]}).status_code == 403
        assert current_manifest().id == two[1]

    def test_visitors_are_asked_to_log_in(self, client: Client) -> None:
        for name in (BUILDS, DOUBTS):
            assert client.get(reverse(name)).status_code == 302


class TestReports:
    @pytest.mark.parametrize(
        ("precision", "sign", "words"),
        [
            (0.70, "▲ +0.050", "better than the current one"),
            (0.60, "▼ −0.050", "worse than the current one"),
            (0.6501, "= ", "as the current one"),
        ],
    )
    def test_they_stand_side_by_side_against_the_current_one(
        self, admin_client: Client, two: tuple[str, str], precision: float, sign: str, words: str
    ) -> None:
        write_report(two[0], precision)
        write_report(two[1], 0.65, plain=0.45)
        page = page_of(admin_client, BUILDS)
        assert "product type + gender" in page
        assert f"{precision:.3f}" in page
        assert "network alone 0.500" in page
        assert "network alone 0.450" in page
        assert sign in page
        assert words in page

    def test_reports_over_another_number_of_neighbours_are_not_compared(self, two: tuple[str, str]) -> None:
        write_report(two[0], 0.7, k=5)
        write_report(two[1], 0.6)
        current, former = compare(stored_builds()).figures["product_type+gender"]
        assert (current.precision, former.precision, former.verdict) == (0.6, 0.7, "")

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"labels": 3}', '{"labels": {"colour": {"p_at_k": null}}}'])
    def test_a_report_that_cannot_be_read_is_none(
        self, admin_client: Client, two: tuple[str, str], content: str
    ) -> None:
        write_report(two[1], 0.6)
        (builds_dir() / "reports" / f"{two[0]}.json").write_text(content)
        page = page_of(admin_client, BUILDS)
        assert "no report" in page
        assert "0.600" in page

    def test_they_outlive_the_next_build(self, two: tuple[str, str], add_product: AddProduct) -> None:
        write_report(two[1], 0.6)
        add_product("new", (1, 2, 3))
        build_index()
        assert (builds_dir() / "reports" / f"{two[1]}.json").exists()


@pytest.fixture
def shop(add_product: AddProduct, monkeypatch: pytest.MonkeyPatch) -> Product:
    """Red shirts and blue shoes; one red shirt is called a shoe."""
    monkeypatch.setattr("similarity.doubts.NEIGHBOURS", 5)
    for at in range(8):
        add_product(f"red{at}", (200, 5 * at, 0), product_type="Shirts")
        add_product(f"blue{at}", (0, 5 * at, 200), product_type="Shoes")
    Product.objects.filter(product_id="red3").update(product_type="Shoes")
    build_index()
    return Product.objects.get(product_id="red3")


def correction(**changes: str) -> dict[str, str]:
    return {"product_id": "red3", "label": "product_type", "value": "Shoes", "suggestion": "Shirts", **changes}


class TestDoubts:
    def test_a_doubt_is_shown_with_its_pictures_and_the_way_to_correct_it(
        self, admin_client: Client, shop: Product
    ) -> None:
        page = page_of(admin_client, DOUBTS)
        neighbour = Product.objects.get(product_id="red2")
        assert f'<img src="{shop.thumbnail.url}"' in page
        assert f'<img src="{neighbour.thumbnail.url}"' in page
        assert f'href="{reverse("admin:catalog_product_change", args=[shop.pk])}"' in page
        assert "Product type: <strong>Shoes</strong>" in page
        assert '<strong>Shirts</strong> <span class="help">100 %</span>' in page
        assert "1 label in doubt" in page
        assert 'style="' not in page

    def test_they_are_filtered_by_label(self, admin_client: Client, shop: Product) -> None:
        assert "No label is in doubt." in page_of(admin_client, DOUBTS, label="gender")
        assert "Product red3" in page_of(admin_client, DOUBTS, label="product_type")
        assert "Product red3" in page_of(admin_client, DOUBTS, label="nonsense")

    def test_there_are_so_many_on_a_page(
        self, admin_client: Client, shop: Product, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
    ) -> None:
        monkeypatch.setattr("similarity.admin.DOUBTS_A_PAGE", 1)
        Product.objects.filter(product_id="blue3").update(product_type="Shirts")
        with django_assert_max_num_queries(8):
            first, second = (page_of(admin_client, DOUBTS, p=number) for number in (1, 2))
        assert ("Product red3" in first) != ("Product red3" in second)
        assert "?p=2" in first

    def test_accepting_a_suggestion_sets_the_label_and_is_logged(self, admin_client: Client, shop: Product) -> None:
        where = f"{reverse(ACCEPT)}?label=product_type"
        answer = admin_client.post(where, correction(), follow=True)
        assert answer.redirect_chain == [(f"{reverse(DOUBTS)}?label=product_type", 302)]
        assert "product type is Shirts now, no longer Shoes." in answer.content.decode()
        assert "No label is in doubt." in answer.content.decode()
        shop.refresh_from_db()
        assert shop.product_type == "Shirts"
        entry = LogEntry.objects.get()
        assert entry.get_edited_object() == shop
        assert "from Shoes to Shirts" in entry.get_change_message()

    @pytest.mark.parametrize(
        "changes",
        [
            {"value": "Hats"},  # somebody has edited it since
            {"suggestion": "Invented"},
            {"label": "title", "value": "Product red3", "suggestion": "Product red2"},
            {"product_id": "gone"},
        ],
    )
    def test_what_is_no_longer_so_changes_nothing(
        self, admin_client: Client, shop: Product, changes: dict[str, str]
    ) -> None:
        page = admin_client.post(reverse(ACCEPT), correction(**changes), follow=True).content.decode()
        assert "Nothing was changed" in page
        assert list(Product.objects.filter(pk=shop.pk).values_list("product_type", "title")) == [
            ("Shoes", "Product red3")
        ]
        assert not LogEntry.objects.exists()

    def test_who_may_only_look_at_products_cannot_edit_them_here(self, shop: Product) -> None:
        client = staff("view_product")
        page = page_of(client, DOUBTS)
        assert "Product red3" in page
        assert reverse("admin:catalog_product_change", args=[shop.pk]) not in page
        assert "Make it" not in page
        assert client.post(reverse(ACCEPT), correction()).status_code == 403
        assert f'href="{reverse(DOUBTS)}"' in page_of(client, "admin:index")

    def test_staff_without_permission_on_products_sees_nothing(self, shop: Product) -> None:
        client = staff("view_indexbuild")
        assert client.get(reverse(DOUBTS)).status_code == 403
        assert reverse(DOUBTS) not in page_of(client, "admin:index")

    def test_accepting_is_a_post_with_a_token(self, shop: Product) -> None:
        client = staff("change_product", enforce_csrf_checks=True)
        assert client.get(reverse(ACCEPT)).status_code == 405
        assert client.post(reverse(ACCEPT), correction()).status_code == 403

    def test_without_an_index_it_says_so(self, admin_client: Client) -> None:
        page = page_of(admin_client, DOUBTS)
        assert "No index has been built yet" in page
        assert "No label is in doubt" not in page

    def test_a_catalogue_too_large_for_a_page_is_sent_to_the_command(
        self, admin_client: Client, shop: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("similarity.admin.MAX_PRODUCTS_WITH_DOUBTS", 15)
        page = page_of(admin_client, DOUBTS)
        assert "The index holds 16 products" in page
        assert "manage.py label_doubts" in page


def test_what_is_no_table_is_left_out_of_a_dump(capsys: pytest.CaptureFixture[str]) -> None:
    """Two dumps: of two tables without rows, and of models that have no table."""
    call_command("dumpdata", "similarity")
    call_command("dumpdata", "similarity", use_base_manager=True)
    assert capsys.readouterr().out == "[][]"


# --- the background ----------------------------------------------------------------------------
def test_a_build_is_asked_for_and_the_page_says_that_nobody_is_there_to_make_it(reds_and_blues: Any) -> None:
    client = staff("view_indexbuild", "change_indexbuild")
    page = page_of(client, BUILDS)
    assert "4 pictures wait to be embedded." in page
    assert "manage.py worker" in page
    done = client.post(reverse("admin:similarity_indexbuild_build"), follow=True).content.decode()
    assert "It waits for a worker: none is running." in done
    assert "embed and build" in done
    assert tasks.recent()[0].name == "embed_and_build"


def test_with_a_worker_the_page_looks_again_until_all_is_done(reds_and_blues: Any) -> None:
    client = staff("view_indexbuild", "change_indexbuild")
    with heartbeat("somebody"):
        done = client.post(reverse("admin:similarity_indexbuild_build"), follow=True).content.decode()
        assert "The background is at it" in done
        assert "manage.py worker" not in done
        assert 'hx-trigger="every 1s"' in done
        part = client.get(reverse("admin:similarity_indexbuild_work"))
        assert "HX-Refresh" not in part.headers
        DBTaskResult.objects.update(status="SUCCESSFUL", return_value={"embedded": 4, "failed": 0})
        part = client.get(reverse("admin:similarity_indexbuild_work"))
        assert part.headers["HX-Refresh"] == "true"
        assert "4 pictures embedded" in part.content.decode()
        assert "hx-trigger" not in part.content.decode()


def test_who_may_not_change_builds_may_not_have_one_made(reds_and_blues: Any) -> None:
    client = staff("view_indexbuild")
    assert "Embed and build now" not in page_of(client, BUILDS)
    assert client.post(reverse("admin:similarity_indexbuild_build")).status_code == 403
    assert client.get(reverse("admin:similarity_indexbuild_build")).status_code == 405

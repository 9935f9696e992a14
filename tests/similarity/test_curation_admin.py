"""The admin's page of a product: its panel, and what the shop chooses for it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from catalog.models import Product
from similarity import curating
from similarity.building import build_index
from similarity.models import Curation
from similarity.services import similar_to
from tests.similarity.conftest import AddProduct
from tests.similarity.test_admin_pages import staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(reds_and_blues: dict[str, Product]) -> dict[str, Product]:
    """Like red are, in this order, rose, plum and blue."""
    build_index()
    return reds_and_blues


def change_url(product: Product) -> str:
    return reverse("admin:catalog_product_change", args=[product.pk])


def curate_url(product: Product) -> str:
    return reverse("admin:catalog_product_curate", args=[product.pk])


def panel_of(product: Product) -> list[str]:
    return [match.product.product_id for match in similar_to(product).matches]


def test_the_page_shows_the_panel_with_scores_and_buttons(admin_client: Client, shop: dict[str, Product]) -> None:
    curating.pin(shop["red"], shop["blue"])
    curating.hide(shop["red"], shop["plum"])
    page = admin_client.get(change_url(shop["red"])).content.decode()
    preview = page[page.index('id="similar"') :]
    assert preview.index(shop["blue"].thumbnail.url) < preview.index(shop["rose"].thumbnail.url)
    assert " %, pinned" in preview
    assert 'name="undo" value="blue"' in preview
    assert 'name="pin" value="rose"' in preview
    assert 'name="hide" value="rose"' in preview
    assert 'name="undo" value="plum"' in preview[preview.index("Hidden here") :]
    assert 'style="' not in page


def test_the_page_costs_the_same_however_much_was_chosen(
    admin_client: Client, shop: dict[str, Product], django_assert_max_num_queries: Any
) -> None:
    for name in ("blue", "plum", "rose"):
        curating.pin(shop["red"], shop[name])
    with django_assert_max_num_queries(14):
        admin_client.get(change_url(shop["red"]))


def test_buttons_pin_hide_and_undo_and_leave_a_trace(admin_client: Client, shop: dict[str, Product]) -> None:
    red = shop["red"]
    answer = admin_client.post(curate_url(red), {"pin": "blue"}, follow=True)
    assert answer.redirect_chain == [(change_url(red) + "#similar", 302)]
    assert "Pinned to the panel of similar items: Product blue (blue)." in answer.content.decode()
    assert panel_of(red) == ["blue", "rose", "plum"]
    admin_client.post(curate_url(red), {"pin": "plum"})
    assert panel_of(red) == ["blue", "plum", "rose"]
    admin_client.post(curate_url(red), {"hide": "blue"})
    assert panel_of(red) == ["plum", "rose"]
    admin_client.post(curate_url(red), {"undo": "blue"})
    admin_client.post(curate_url(red), {"undo": "plum"})
    assert panel_of(red) == ["rose", "plum", "blue"]
    history = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert [message.split()[0] for message in history] == ["Pinned", "Pinned", "Hidden", "Neither", "Neither"]
    assert all(entry.get_edited_object() == red for entry in LogEntry.objects.all())


@pytest.mark.parametrize("other", ["nobody", "red", ""])
def test_what_makes_no_sense_changes_nothing(admin_client: Client, shop: dict[str, Product], other: str) -> None:
    page = admin_client.post(curate_url(shop["red"]), {"pin": other}, follow=True).content.decode()
    assert "Nothing was changed" in page
    assert not Curation.objects.exists()
    assert not LogEntry.objects.exists()


def test_an_unknown_product_is_404(admin_client: Client) -> None:
    address = reverse("admin:catalog_product_curate", args=[12345])
    assert admin_client.post(address, {"pin": "blue"}).status_code == 404


def test_who_may_only_look_has_no_buttons(shop: dict[str, Product]) -> None:
    client = staff("view_product")
    curating.hide(shop["red"], shop["plum"])
    page = client.get(change_url(shop["red"])).content.decode()
    assert shop["rose"].thumbnail.url in page
    assert 'name="pin"' not in page
    assert 'name="undo"' not in page
    assert client.post(curate_url(shop["red"]), {"pin": "blue"}).status_code == 403


def test_choosing_is_a_post_with_a_token_by_somebody_who_may(client: Client, shop: dict[str, Product]) -> None:
    address = curate_url(shop["red"])
    assert "login" in client.post(address, {"pin": "blue"}).headers["location"]
    clerk = staff("change_product", enforce_csrf_checks=True)
    assert clerk.get(address).status_code == 405
    assert clerk.post(address, {"pin": "blue"}).status_code == 403
    assert not Curation.objects.exists()


def test_choices_are_edited_in_rows_and_the_history_names_them(shop: dict[str, Product]) -> None:
    red, clerk = shop["red"], staff("change_product", "view_product")
    prefix = "curations"
    rows = [("blue", "pinned", 1), ("plum", "pinned", 0)]
    form = {"product_id": red.product_id, "title": red.title, f"{prefix}-INITIAL_FORMS": "0"}
    form[f"{prefix}-TOTAL_FORMS"] = str(len(rows))
    for at, (name, kind, position) in enumerate(rows):
        form |= {
            f"{prefix}-{at}-other": str(shop[name].pk),
            f"{prefix}-{at}-kind": kind,
            f"{prefix}-{at}-position": str(position),
            f"{prefix}-{at}-product": str(red.pk),
        }
    assert clerk.post(change_url(red), form).status_code == 302
    assert panel_of(red) == ["plum", "blue", "rose"]
    assert "choice for the panel" in LogEntry.objects.get().get_change_message()
    form[f"{prefix}-0-other"] = str(red.pk)
    assert "cannot be chosen for its own panel" in clerk.post(change_url(red), form).content.decode()


def test_a_product_that_is_being_added_has_no_panel(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:catalog_product_add")).content.decode()
    assert 'id="similar"' not in page
    assert "-TOTAL_FORMS" not in page


def test_without_an_index_the_page_stands_and_says_what_to_do(admin_client: Client, add_product: AddProduct) -> None:
    page = admin_client.get(change_url(add_product("red", (200, 0, 0)))).content.decode()
    assert "manage.py build_index" in page[page.index('id="similar"') :]


def test_a_picture_marked_to_be_embedded_anew_is_so_by_the_next_build(
    admin_client: Client, shop: dict[str, Product]
) -> None:
    form = {"action": "embed_anew", "_selected_action": [shop["rose"].pk]}
    admin_client.post(reverse("admin:catalog_product_changelist"), form)
    assert panel_of(shop["red"]) == ["plum", "blue"]
    assert build_index().embedded == 1
    assert panel_of(shop["red"]) == ["rose", "plum", "blue"]

"""What is done to many products at once in the admin, and what their histories tell of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from catalog.importing.hosts import FIRST_AT_ONCE
from catalog.importing.refetch import HURRIED, MOST, refetch
from catalog.models import Product
from tests.catalog.material import picture
from tests.catalog.test_download import HASTY, Shop, answer, running_shop  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db
LIST = "admin:catalog_product_changelist"


def act(client: Client, action: str, *products: Product) -> str:
    form = {"action": action, "_selected_action": [product.pk for product in products]}
    return client.post(reverse(LIST), form, follow=True).content.decode()


def history() -> list[tuple[str, str]]:
    """(product id, message), the first first."""
    ids = dict(Product.objects.values_list("pk", "product_id"))
    return [(ids[int(entry.object_id or 0)], entry.get_change_message()) for entry in LogEntry.objects.order_by("pk")]


def test_hiding_and_showing_is_noted_of_those_that_it_changes(admin_client: Client, add: Any) -> None:
    one, two = add("1"), add("2", hidden=True)
    assert "1 product is hidden now." in act(admin_client, "hide", one, two)
    assert "2 products are shown again." in act(admin_client, "show", one, two)
    assert sorted(history()) == [("1", "Hidden."), ("1", "Shown again."), ("2", "Shown again.")]


def test_pictures_are_marked_to_be_embedded_anew(admin_client: Client, add: Any) -> None:
    one, two, bare = add("1", shown=True), add("22", shown=True), add("3")
    page = act(admin_client, "embed_anew", one, two, bare)
    assert "2 pictures are embedded anew" in page
    rows = {one.embedding_row, two.embedding_row}
    for product in (one, two, bare):
        before = product.image_sha256
        product.refresh_from_db()
        assert product.image_sha256 == before
    assert bare.embedding_row is None
    assert not rows & {one.embedding_row, two.embedding_row}
    assert [product_id for product_id, _ in sorted(history())] == ["1", "22"]


def test_pictures_are_fetched_again_and_each_is_told_of(
    admin_client: Client, add: Any, shop: Shop, settings: Any
) -> None:
    same, other, gone, bare, uploaded = (add(str(number) * number, shown=number != 4) for number in range(1, 6))
    for product, path in ((same, "same"), (other, "other"), (gone, "gone"), (uploaded, "other")):
        Product.objects.filter(pk=product.pk).update(image_url=f"{shop.address}/{path}.png")
    Product.objects.filter(pk=uploaded.pk).update(image_source="upload:x")
    shop.answers["/same.png"] = lambda request, count: answer(request, body=picture((20, 80, 40)))
    shop.answers["/other.png"] = lambda request, count: answer(request, body=picture((1, 2, 3)))
    shop.answers["/gone.png"] = lambda request, count: answer(request, 404, b"")
    page = act(admin_client, "fetch_again", same, other, gone, bare, uploaded)
    assert "Product 1 (1): the picture was fetched and is the same." in page
    assert "Product 22 (22): the picture was fetched and is another one now." in page
    assert "Product 333 (333): HTTP 404." in page
    assert "Product 4444 (4444): There is no address." in page
    assert "Product 55555 (55555): The picture was given by hand." in page
    assert shop.asked == {"/same.png": 1, "/other.png": 1, "/gone.png": 1}
    before = gone.image_sha256
    gone.refresh_from_db()
    assert (gone.image_sha256, gone.image_error) == (before, "HTTP 404.")
    assert [product_id for product_id, _ in history()] == ["1", "22"]


def test_so_many_pictures_are_fetched_at_once_and_no_more(admin_client: Client, add: Any) -> None:
    products = [add(str(number)) for number in range(MOST + 1)]
    assert f"At most {MOST} pictures are fetched at once." in act(admin_client, "fetch_again", *products)
    with pytest.raises(ValueError, match="At most"):
        refetch(products, HASTY)


def test_the_slowest_host_cannot_hold_the_page_for_half_a_minute() -> None:
    """One that drips every picture: each takes its whole time, as many at once as a host is asked at first."""
    assert HURRIED.total_timeout_s * math.ceil(MOST / FIRST_AT_ONCE) < 25


@pytest.mark.parametrize("action", ["hide", "show", "embed_anew", "fetch_again"])
def test_who_may_not_change_products_has_no_actions(add: Any, action: str) -> None:
    product = add("1", shown=True)
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_product"))
    client = Client()
    client.force_login(clerk)
    assert f'value="{action}"' not in client.get(reverse(LIST)).content.decode()
    act(client, action, product)
    before = (product.hidden, product.embedding_row)
    product.refresh_from_db()
    assert (product.hidden, product.embedding_row) == before
    assert not LogEntry.objects.exists()

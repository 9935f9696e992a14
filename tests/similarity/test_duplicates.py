"""Products that show the same: found, shown side by side, decided about, and told apart for good."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from catalog.models import Product
from similarity.building import build_index
from similarity.duplicates import find_duplicates, tell_apart
from similarity.models import DistinctPair
from similarity.refining import Refinement, leaders
from similarity.services import similar_to
from tests.similarity.conftest import AddProduct
from tests.similarity.test_admin_pages import page_of, staff

pytestmark = pytest.mark.django_db
PAGE = "admin:similarity_duplicate_changelist"
DECIDE = "admin:similarity_duplicate_decide"
COLLAPSED = Refinement(collapse=True)


@pytest.fixture
def twins(add_product: AddProduct) -> dict[str, Product]:
    """Two that are nearly the same, three exact copies, and one that is like nothing."""
    colours = {
        "shot": (150, 30, 110),
        "again": (150, 30, 111),
        "blue": (0, 0, 200),
        "copy": (0, 0, 200),
        "third": (0, 0, 200),
        "green": (20, 160, 20),
    }
    shop = {name: add_product(name, colour) for name, colour in colours.items()}
    build_index()
    return shop


def groups() -> list[list[str]]:
    return [list(group) for group in find_duplicates().groups]


def decide(client: Client, *of: str, **decision: str) -> str:
    return client.post(reverse(DECIDE), {"of": of, **decision}, follow=True).content.decode()


def hidden() -> set[str]:
    return set(Product.objects.filter(hidden=True).values_list("product_id", flat=True))


class TestFinding:
    def test_exact_copies_come_before_near_ones(self, twins: dict[str, Product]) -> None:
        assert groups() == [["blue", "copy", "third"], ["shot", "again"]]

    def test_hidden_and_missing_products_take_no_part(self, twins: dict[str, Product]) -> None:
        Product.objects.filter(product_id__in=["copy", "again"]).update(hidden=True)
        assert groups() == [["blue", "third"]]

    def test_younger_products_take_part_at_once_as_exact_copies(
        self, twins: dict[str, Product], add_product: AddProduct
    ) -> None:
        add_product("late", (20, 160, 20))
        assert ["green", "late"] in groups()

    def test_without_an_index_only_exact_copies_are_found(self, add_product: AddProduct) -> None:
        for name, colour in (("a", (1, 2, 3)), ("b", (1, 2, 3)), ("c", (1, 2, 4))):
            add_product(name, colour)
        found = find_duplicates()
        assert (list(map(list, found.groups)), found.trouble) == ([["a", "b"]], "unavailable")

    def test_of_many_products_only_exact_copies_are_looked_for(
        self, twins: dict[str, Product], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("similarity.duplicates.MAX_PRODUCTS", 5)
        found = find_duplicates()
        assert (list(map(list, found.groups)), found.trouble) == ([["blue", "copy", "third"]], "many")

    def test_an_empty_catalogue_has_none(self) -> None:
        assert groups() == []

    def test_what_was_told_apart_does_not_come_again(self, twins: dict[str, Product]) -> None:
        tell_apart([twins["again"], twins["shot"]])
        tell_apart([twins["shot"], twins["again"]])  # twice is once
        assert groups() == [["blue", "copy", "third"]]
        tell_apart([twins["blue"], twins["copy"]])
        assert groups() == [["blue", "copy", "third"]]  # the third is a copy of either
        tell_apart([twins["blue"], twins["third"]])
        assert groups() == [["copy", "third"]]

    def test_a_pair_goes_with_its_products_and_is_kept_in_one_order(self, twins: dict[str, Product]) -> None:
        tell_apart([twins["blue"], twins["copy"], twins["third"]])
        assert DistinctPair.objects.count() == 3
        with pytest.raises(IntegrityError), transaction.atomic():
            DistinctPair.objects.create(one=twins["copy"], other=twins["blue"])
        twins["third"].delete()
        assert DistinctPair.objects.count() == 1


class TestPages:
    def test_what_was_told_apart_is_not_collapsed(self, twins: dict[str, Product]) -> None:
        def told(product: Product) -> list[tuple[str, int]]:
            matches = similar_to(product, refinement=COLLAPSED).matches
            return sorted((match.product.product_id, match.more) for match in matches)

        assert told(twins["green"]) == [("blue", 2), ("shot", 1)]
        tell_apart([twins["shot"], twins["again"]])
        assert told(twins["green"]) == [("again", 0), ("blue", 2), ("shot", 0)]
        tell_apart([twins["blue"], twins["copy"]])
        assert told(twins["green"]) == [("again", 0), ("blue", 1), ("copy", 0), ("shot", 0)]

    def test_it_costs_a_query_only_where_something_would_collapse(
        self, twins: dict[str, Product], django_assert_num_queries: Any
    ) -> None:
        similar_to(twins["green"], refinement=COLLAPSED)
        with django_assert_num_queries(2):
            similar_to(twins["green"], refinement=COLLAPSED)
        tell_apart([twins["green"], twins["blue"]])
        with django_assert_num_queries(2):
            similar_to(twins["green"], refinement=COLLAPSED)

    def test_leaders_keep_apart_what_was_told_apart(self) -> None:
        assert leaders(["x", "x", "x", "y"], None, apart=[(0, 2)]).tolist() == [0, 0, 2, 3]
        assert leaders(["x", "x", "x"], None, apart=[(0, 1)]).tolist() == [0, 1, 0]
        assert leaders(["x", "x", "x"], None, 2).tolist() == [0, 1, 0]


class TestAdmin:
    def test_groups_stand_side_by_side_with_what_differs_marked(
        self, admin_client: Client, twins: dict[str, Product]
    ) -> None:
        Product.objects.filter(product_id="again").update(colour="Plum", gender="Men")
        Product.objects.filter(product_id="shot").update(colour="Pink", gender="Men")
        page = page_of(admin_client, PAGE)
        assert page.index("The same picture") < page.index("Nearly the same picture")
        assert twins["again"].thumbnail.url in page
        assert page.count('class="twins__differs"') == 2
        assert "Plum" in page
        assert "2 groups" in page
        assert 'style="' not in page

    def test_one_is_kept_and_the_others_are_hidden_and_it_is_noted(
        self, admin_client: Client, twins: dict[str, Product]
    ) -> None:
        page = decide(admin_client, "blue", "copy", "third", keep="copy")
        assert "2 products are hidden now." in page
        assert hidden() == {"blue", "third"}
        assert groups() == [["shot", "again"]]
        entries = LogEntry.objects.order_by("object_id")
        assert [entry.get_change_message() for entry in entries] == [
            "Hidden as a duplicate of Product copy (copy)."
        ] * 2
        assert {entry.get_edited_object() for entry in entries} == {twins["blue"], twins["third"]}

    def test_a_single_one_is_hidden(self, admin_client: Client, twins: dict[str, Product]) -> None:
        assert "1 product is hidden now." in decide(admin_client, "blue", "copy", "third", hide="third")
        assert hidden() == {"third"}

    def test_no_duplicates_are_remembered(self, admin_client: Client, twins: dict[str, Product]) -> None:
        assert "no duplicates of each other" in decide(admin_client, "shot", "again", apart="")
        assert groups() == [["blue", "copy", "third"]]
        assert not hidden()
        messages = {entry.get_change_message() for entry in LogEntry.objects.all()}
        assert messages == {"Not a duplicate of shot.", "Not a duplicate of again."}

    @pytest.mark.parametrize(
        ("of", "decision"),
        [
            (("blue", "copy", "gone"), {"keep": "copy"}),
            (("blue", "copy"), {"keep": "shot-not-there"}),
            (("blue",), {"keep": "blue"}),
            ((), {"apart": ""}),
            (("blue", "copy"), {}),
        ],
        ids=("one is gone", "none is kept", "one alone", "none", "no decision"),
    )
    def test_what_is_no_longer_as_shown_changes_nothing(
        self, admin_client: Client, twins: dict[str, Product], of: tuple[str, ...], decision: dict[str, str]
    ) -> None:
        assert "Nothing was changed" in decide(admin_client, *of, **decision)
        assert not hidden()
        assert not DistinctPair.objects.exists()
        assert not LogEntry.objects.exists()

    def test_a_hidden_product_is_never_the_one_that_is_kept(
        self, admin_client: Client, twins: dict[str, Product]
    ) -> None:
        Product.objects.filter(product_id="copy").update(hidden=True)
        assert "Nothing was changed" in decide(admin_client, "blue", "copy", keep="copy")
        assert hidden() == {"copy"}

    def test_there_are_so_many_on_a_page_and_in_a_group(
        self,
        admin_client: Client,
        twins: dict[str, Product],
        monkeypatch: pytest.MonkeyPatch,
        django_assert_max_num_queries: Any,
    ) -> None:
        monkeypatch.setattr("similarity.admin_duplicates.GROUPS_A_PAGE", 1)
        monkeypatch.setattr("similarity.admin_duplicates.SHOWN_OF_A_GROUP", 2)
        with django_assert_max_num_queries(7):
            first = page_of(admin_client, PAGE)
        assert "Product third" not in first
        assert "and 1 more" in first
        assert 'href="?p=2"' in first
        assert "Product shot" in page_of(admin_client, PAGE, p=2)

    def test_who_may_only_look_has_no_buttons(self, twins: dict[str, Product]) -> None:
        client = staff("view_product")
        page = page_of(client, PAGE)
        assert "Product copy" in page
        assert 'name="keep"' not in page
        assert 'name="apart"' not in page
        assert client.post(reverse(DECIDE), {"of": ["blue", "copy"], "keep": "blue"}).status_code == 403
        assert not hidden()

    def test_deciding_is_a_post_with_a_token_by_somebody_who_may(
        self, client: Client, twins: dict[str, Product]
    ) -> None:
        assert client.get(reverse(PAGE)).status_code == 302
        clerk = staff("change_product", enforce_csrf_checks=True)
        assert clerk.get(reverse(DECIDE)).status_code == 405
        assert clerk.post(reverse(DECIDE), {"of": ["blue", "copy"], "keep": "blue"}).status_code == 403
        assert not hidden()

    def test_staff_without_permission_on_products_sees_nothing(self, twins: dict[str, Product]) -> None:
        client = staff("view_indexbuild")
        assert client.get(reverse(PAGE)).status_code == 403

    def test_it_says_where_there_may_be_more(
        self, admin_client: Client, twins: dict[str, Product], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("duplicates", "admin_duplicates"):
            monkeypatch.setattr(f"similarity.{module}.MAX_PRODUCTS", 5)
        assert "6 products are shown with a picture" in page_of(admin_client, PAGE)

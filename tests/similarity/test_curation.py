"""What the shop pins and hides, in answers, on pages, over HTTP and on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client

from catalog.models import Product
from similarity import curating
from similarity.building import build_index
from similarity.evaluation import evaluate_similarity
from similarity.models import Curation
from similarity.refining import CALIBRATED, Refinement
from similarity.services import Answer, similar_to
from tests.similarity.conftest import AddProduct

SIMILAR = "/api/v1/products/red/similar/"


@pytest.fixture
def shop(reds_and_blues: dict[str, Product]) -> dict[str, Product]:
    """Like red are, in this order, rose, plum and blue."""
    build_index()
    return reds_and_blues


def ids(answer: Answer) -> list[str]:
    return [match.product.product_id for match in answer.matches]


def pinned_ids(answer: Answer) -> list[str]:
    return [match.product.product_id for match in answer.matches if match.pinned]


class TestAnswers:
    def test_pinned_ones_come_first_in_their_order_and_once(self, shop: dict[str, Product]) -> None:
        for name in ("blue", "plum"):
            curating.pin(shop["red"], shop[name])
        answer = similar_to(shop["red"])
        assert ids(answer) == ["blue", "plum", "rose"]
        assert pinned_ids(answer) == ["blue", "plum"]
        Curation.objects.filter(other=shop["plum"]).update(position=0)
        Curation.objects.filter(other=shop["blue"]).update(position=1)
        assert ids(similar_to(shop["red"])) == ["plum", "blue", "rose"]

    def test_they_keep_the_score_that_the_index_gives_them(self, shop: dict[str, Product]) -> None:
        before = {match.product.pk: (match.score, match.parts) for match in similar_to(shop["red"]).matches}
        curating.pin(shop["red"], shop["blue"])
        for match in similar_to(shop["red"]).matches:
            score, parts = before[match.product.pk]
            assert match.score == pytest.approx(score, abs=1e-5)
            assert match.parts == pytest.approx(parts, abs=1e-5)

    def test_a_choice_is_of_one_panel_only(self, shop: dict[str, Product]) -> None:
        before = ids(similar_to(shop["blue"]))
        curating.pin(shop["red"], shop["blue"])
        curating.hide(shop["red"], shop["rose"])
        assert ids(similar_to(shop["blue"])) == before

    def test_there_are_never_more_than_k(self, shop: dict[str, Product]) -> None:
        for name in ("blue", "plum"):
            curating.pin(shop["red"], shop[name])
        assert [ids(similar_to(shop["red"], k)) for k in (1, 2, 3)] == [
            ["blue"],
            ["blue", "plum"],
            ["blue", "plum", "rose"],
        ]

    def test_hidden_ones_never_come_and_others_fill_their_place(self, shop: dict[str, Product]) -> None:
        curating.hide(shop["red"], shop["rose"])
        assert ids(similar_to(shop["red"], 2)) == ["plum", "blue"]

    def test_many_hidden_ones_do_not_empty_the_panel(self, add_product: AddProduct) -> None:
        red = add_product("red", (200, 0, 0))
        for number in range(40):
            curating.hide(red, add_product(f"near{number}", (200, 0, number % 6)))
        for number in range(12):
            add_product(f"far{number}", (10 * number, 100, 200))
        build_index()
        assert len(similar_to(red).matches) == 12
        assert all(each.startswith("far") for each in ids(similar_to(red)))

    def test_pinned_ones_that_visitors_do_not_see_are_left_out(self, shop: dict[str, Product]) -> None:
        curating.pin(shop["red"], shop["blue"])
        Product.objects.filter(product_id="blue").update(hidden=True)
        assert ids(similar_to(shop["red"])) == ["rose", "plum"]
        Product.objects.filter(product_id="blue").delete()
        assert not Curation.objects.exists()

    def test_one_without_embedding_has_no_score(self, shop: dict[str, Product], add_product: AddProduct) -> None:
        for other in (add_product("young", (9, 9, 9)), add_product("bare")):
            curating.pin(shop["red"], other)
        answer = similar_to(shop["red"], 3, refinement=Refinement(collapse=True, diversity=0.5))
        assert ids(answer)[:2] == ["young", "bare"]
        assert [(match.score is None, match.parts == {}) for match in answer.matches] == [
            (True, True),
            (True, True),
            (False, False),
        ]
        assert answer.to_json()["matches"][0]["score"] is None

    def test_a_product_that_cannot_be_compared_has_its_pinned_ones(
        self, shop: dict[str, Product], add_product: AddProduct
    ) -> None:
        for other in (add_product("young", (9, 9, 9)), add_product("bare"), add_product("white", (255, 255, 255))):
            curating.pin(other, shop["blue"])
            answer = similar_to(other, mix={"colour": 1})
            assert (ids(answer), answer.matches[0].score) == (["blue"], None)

    @pytest.mark.parametrize(
        "refinement",
        [
            Refinement(collapse=True, diversity=0.9, min_score=0.999),
            Refinement(collapse=True, min_score=CALIBRATED, only={"gender": ("Men",)}, relax=False),
            Refinement(diversity=1.0, same=("gender",)),
        ],
        ids=("cut off", "strict wishes", "wishes"),
    )
    def test_refining_does_not_drop_them(self, shop: dict[str, Product], refinement: Refinement) -> None:
        Product.objects.filter(product_id__in=["red", "rose"]).update(gender="Men")
        for name in ("blue", "plum"):
            curating.pin(shop["red"], shop[name])
        answer = similar_to(Product.objects.get(product_id="red"), 3, refinement=refinement)
        assert ids(answer)[:2] == ["blue", "plum"]
        assert len(answer.matches) <= 3

    def test_copies_of_a_pinned_one_count_as_one_with_it_but_pinned_copies_all_stand(
        self, shop: dict[str, Product], add_product: AddProduct
    ) -> None:
        copies = [add_product(f"copy{number}", (0, 0, 200)) for number in range(2)]
        build_index()
        curating.pin(shop["red"], shop["blue"])
        collapsed = similar_to(shop["red"], refinement=Refinement(collapse=True)).matches
        assert [(match.product.product_id, match.more) for match in collapsed] == [
            ("blue", 2),
            ("rose", 0),
            ("plum", 0),
        ]
        curating.pin(shop["red"], copies[1])
        assert ids(similar_to(shop["red"], refinement=Refinement(collapse=True)))[:2] == ["blue", "copy1"]

    def test_without_curation_it_is_the_bare_ranking(self, shop: dict[str, Product]) -> None:
        curating.pin(shop["red"], shop["blue"])
        curating.hide(shop["red"], shop["rose"])
        answer = similar_to(shop["red"], curated=False)
        assert (ids(answer), pinned_ids(answer)) == (["rose", "plum", "blue"], [])

    def test_the_judge_never_sees_it(self, shop: dict[str, Product]) -> None:
        Product.objects.update(gender="Men")
        before = evaluate_similarity(whole=True).to_json()
        curating.pin(shop["red"], shop["blue"])
        curating.hide(shop["red"], shop["rose"])
        assert evaluate_similarity(whole=True).to_json() == before


class TestChoices:
    def test_the_last_word_counts(self, shop: dict[str, Product]) -> None:
        curating.pin(shop["red"], shop["blue"])
        curating.hide(shop["red"], shop["blue"])
        assert "blue" not in ids(similar_to(shop["red"]))
        curating.undo(shop["red"], shop["blue"])
        assert ids(similar_to(shop["red"])) == ["rose", "plum", "blue"]

    def test_a_product_is_not_chosen_for_itself(self, shop: dict[str, Product]) -> None:
        with pytest.raises(ValueError, match="its own panel"):
            curating.pin(shop["red"], shop["red"])
        with pytest.raises(ValidationError, match="its own panel"):
            Curation(product=shop["red"], other=shop["red"]).full_clean()
        with pytest.raises(IntegrityError), transaction.atomic():
            Curation.objects.create(product=shop["red"], other=shop["red"])

    def test_it_goes_with_either_product(self, shop: dict[str, Product]) -> None:
        curating.pin(shop["red"], shop["blue"])
        curating.hide(shop["rose"], shop["red"])
        shop["red"].delete()
        assert not Curation.objects.exists()


class TestPagesAndProgrammes:
    def test_the_page_says_who_chose_it_and_costs_no_more_than_six_queries(
        self, client: Client, shop: dict[str, Product], django_assert_max_num_queries: Any
    ) -> None:
        curating.pin(shop["red"], shop["blue"])
        client.get("/products/red/")
        with django_assert_max_num_queries(6):
            page = client.get("/products/red/").content.decode()
        assert page.count("chosen by the shop") == 1
        panel = page[page.index('id="similar"') :]
        assert panel.index("Product blue") < panel.index("Product rose")

    def test_a_product_without_picture_shows_what_was_pinned(
        self, client: Client, shop: dict[str, Product], add_product: AddProduct
    ) -> None:
        bare = add_product("bare")
        assert "there is nothing to compare" in client.get("/products/bare/").content.decode()
        curating.pin(bare, shop["blue"])
        page = client.get("/products/bare/").content.decode()
        assert "chosen by the shop" in page
        assert "there is nothing to compare" not in page

    def test_api_and_command_say_it_and_can_leave_it_out(
        self, client: Client, shop: dict[str, Product], capsys: pytest.CaptureFixture[str]
    ) -> None:
        curating.pin(shop["red"], shop["blue"])
        curating.hide(shop["red"], shop["plum"])
        answer = client.get(SIMILAR).json()
        assert [(match["product_id"], match["pinned"]) for match in answer["matches"]] == [
            ("blue", True),
            ("rose", False),
        ]
        call_command("similar", "red", "--json")
        assert json.loads(capsys.readouterr().out) == answer
        bare = client.get(SIMILAR, {"curated": "false", "mix": "style:1"}).json()
        assert [(match["product_id"], match["pinned"]) for match in bare["matches"]] == [
            ("rose", False),
            ("plum", False),
            ("blue", False),
        ]
        call_command("similar", "red", "--uncurated", "--mix", "style:1", "--json")
        assert json.loads(capsys.readouterr().out) == bare
        call_command("similar", "red")
        assert capsys.readouterr().out.splitlines()[0].endswith("pinned")
        assert client.get(SIMILAR, {"curated": "perhaps"}).status_code == 400

    def test_the_openapi_document_knows_it(self, client: Client, db: None) -> None:
        document = client.get("/api/schema/", headers={"accept": "application/json"}).json()
        match = document["components"]["schemas"]["Match"]["properties"]
        assert match["pinned"]["type"] == "boolean"
        assert match["score"]["nullable"]
        (path,) = (path for path in document["paths"] if path.endswith("/similar/") and "product" in path)
        assert "curated" in {each["name"] for each in document["paths"][path]["get"]["parameters"]}

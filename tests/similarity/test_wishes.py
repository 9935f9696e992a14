"""Wishes, cut-offs, variety and near copies, asked of a real index."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from PIL import Image

from catalog.models import Product
from similarity.building import build_index
from similarity.builds import current_manifest
from similarity.refining import CALIBRATED, Refinement
from similarity.services import similar_to, similar_to_image, similar_to_several
from tests.problems import errors_of
from tests.similarity.conftest import AddProduct, embed_without_building

SIMILAR = "/api/v1/products/red/similar/"


def ids(answer: Any) -> list[str]:
    return [match.product.product_id for match in answer.matches]


@pytest.fixture
def shoes(add_product: AddProduct) -> Product:
    """A red heel of women's, and others ever further from it in colour."""
    asked = add_product("red", (200, 0, 0), gender="Women", product_type="Heels", colour="Red")
    add_product("rose", (200, 60, 60), gender="Women", product_type="Flats", colour="Rose Red")
    add_product("plum", (150, 30, 110), gender="Men", product_type="Flats", colour="Plum")
    add_product("sky", (60, 110, 200), gender="Women", product_type="Heels", colour="Sky Blue")
    add_product("blue", (0, 0, 200), gender="Women", product_type="Heels", colour="Blue")
    build_index()
    return asked


def test_matches_share_what_is_wished_and_then_the_wish_gives_in_and_says_so(shoes: Product) -> None:
    answer = similar_to(shoes, 2, refinement=Refinement(same=("product_type",)))
    assert (ids(answer), answer.relaxed) == (["sky", "blue"], ())
    answer = similar_to(shoes, 3, refinement=Refinement(same=("product_type",)))
    assert ids(answer) == ["sky", "blue", "rose"]
    assert [vars(each) for each in answer.relaxed] == [
        {"wish": "product_type", "wanted": ("Heels",), "to": "any"},
    ]


def test_a_colour_gives_in_to_related_ones_before_any(shoes: Product) -> None:
    answer = similar_to(shoes, 1, refinement=Refinement(same=("colour",)))
    assert ids(answer) == ["rose"]
    assert [(each.wish, each.to) for each in answer.relaxed] == [("colour", "related")]


def test_without_relaxing_there_are_rather_fewer(shoes: Product) -> None:
    answer = similar_to(shoes, 12, refinement=Refinement(same=("product_type",), relax=False))
    assert (ids(answer), answer.relaxed) == (["sky", "blue"], ())


def test_filters_narrow_and_wishes_narrow_them_further(shoes: Product) -> None:
    only = {"gender": ("Women",)}
    assert ids(similar_to(shoes, 2, refinement=Refinement(only=only))) == ["rose", "sky"]
    both = Refinement(only=only, same=("product_type",), relax=False)
    assert ids(similar_to(shoes, 12, refinement=both)) == ["sky", "blue"]
    several = Refinement(only={"colour": ("Blue", "Plum")}, relax=False)
    assert ids(similar_to(shoes, 12, refinement=several)) == ["plum", "blue"]


def test_matches_may_have_to_differ(shoes: Product) -> None:
    answer = similar_to(shoes, 12, refinement=Refinement(differ=("product_type",), relax=False))
    assert ids(answer) == ["rose", "plum"]


def test_a_wish_to_differ_where_all_are_alike_is_told(shoes: Product) -> None:
    Product.objects.update(usage="Casual")
    shoes.refresh_from_db()
    answer = similar_to(shoes, 2, refinement=Refinement(differ=("usage",)))
    assert ids(answer) == ["rose", "plum"]
    assert [vars(each) for each in answer.relaxed] == [{"wish": "usage", "wanted": (), "to": "any"}]


def test_a_filter_stands_where_it_contradicts_a_wish(shoes: Product) -> None:
    answer = similar_to(shoes, 1, refinement=Refinement(only={"colour": ("Blue",)}, same=("colour",), relax=False))
    assert ids(answer) == ["blue"]


def test_a_wish_for_a_label_that_the_product_lacks_is_told(shoes: Product) -> None:
    answer = similar_to(shoes, 2, refinement=Refinement(same=("usage",)))
    assert ids(answer) == ["rose", "plum"]
    assert [vars(each) for each in answer.relaxed] == [{"wish": "usage", "wanted": (), "to": "any"}]


def test_hidden_products_fulfil_no_wish(shoes: Product) -> None:
    Product.objects.filter(product_id="sky").update(hidden=True)
    assert ids(similar_to(shoes, 1, refinement=Refinement(same=("product_type",)))) == ["blue"]


def test_younger_products_fulfil_wishes_too(shoes: Product, add_product: AddProduct) -> None:
    """Embedded after the index was built, so they are answered from the space."""
    add_product("new", (190, 10, 10), product_type="Heels")
    add_product("other", (190, 10, 10), product_type="Boots")
    embed_without_building()
    assert set(ids(similar_to(shoes, 2))) == {"new", "other"}
    assert ids(similar_to(shoes, 1, refinement=Refinement(same=("product_type",)))) == ["new"]


def test_a_picture_may_be_asked_with_filters(shoes: Product) -> None:
    answer = similar_to_image(
        Image.new("RGB", (8, 8), (200, 0, 0)), 1, refinement=Refinement(only={"gender": ("Men",)})
    )
    assert ids(answer) == ["plum"]


def test_several_products_wish_for_what_any_of_them_has(shoes: Product) -> None:
    plum = Product.objects.get(product_id="plum")
    wish = Refinement(same=("product_type",), relax=False)
    assert set(ids(similar_to_several([shoes, plum], refinement=wish))) == {"rose", "sky", "blue"}
    assert ids(similar_to_several([plum], refinement=wish)) == ["rose"]


def test_a_cutoff_leaves_out_what_scores_less(shoes: Product) -> None:
    scores = {match.product.product_id: match.score or 0.0 for match in similar_to(shoes).matches}
    answer = similar_to(shoes, refinement=Refinement(min_score=scores["plum"] - 1e-6))
    assert ids(answer) == ["rose", "plum"]
    assert answer.min_score == pytest.approx(scores["plum"], abs=1e-5)


def test_an_odd_product_has_no_matches_under_the_calibrated_cutoff(add_product: AddProduct) -> None:
    for at in range(110):
        add_product(f"red{at}", (180 + at % 40, at // 4, at % 30))
    odd = add_product("odd", (0, 180, 220))
    build_index()
    red = Product.objects.get(product_id="red7")
    assert len(similar_to(red, refinement=Refinement(min_score=CALIBRATED)).matches) == 12
    answer = similar_to(odd, refinement=Refinement(min_score=CALIBRATED))
    assert answer.matches == ()
    assert answer.min_score is not None
    assert len(similar_to(odd).matches) == 12
    assert similar_to_several([odd, red], refinement=Refinement(min_score=CALIBRATED)).min_score is None


def test_a_small_build_knows_no_cutoff(shoes: Product) -> None:
    answer = similar_to(shoes, refinement=Refinement(min_score=CALIBRATED))
    assert (len(answer.matches), answer.min_score) == (4, None)


def test_variety_brings_the_far_one_forward_and_keeps_the_best_first(add_product: AddProduct) -> None:
    asked = add_product("asked", (200, 0, 0))
    for name, colour in (("a", (190, 20, 20)), ("b", (190, 24, 20)), ("c", (190, 20, 24)), ("far", (120, 120, 0))):
        add_product(name, colour)
    build_index()
    assert "far" not in ids(similar_to(asked, 3))
    varied = ids(similar_to(asked, 2, refinement=Refinement(diversity=0.7)))
    assert varied[0] == ids(similar_to(asked, 1))[0]
    assert varied[1] == "far"
    assert len(ids(similar_to(asked, 12, refinement=Refinement(diversity=1.0)))) == 4


def test_near_duplicates_collapse_into_one_card(add_product: AddProduct) -> None:
    asked = add_product("asked", (200, 0, 0))
    add_product("shot", (150, 30, 110))
    add_product("again", (150, 30, 111))  # another file, another digest
    add_product("other", (0, 0, 200))
    build_index()
    assert current_manifest().fit["calibration"]["near_duplicates"].keys() == {"style", "colour"}
    matches = similar_to(asked, refinement=Refinement(collapse=True)).matches
    assert [(match.product.product_id, match.more) for match in matches] == [("shot", 1), ("other", 0)]


def test_echoes_are_made_once_and_again_if_damaged(shoes: Product, settings: Any, add_product: AddProduct) -> None:
    def kept() -> dict[str, int]:
        return {path.parent.name: path.stat().st_mtime_ns for path in settings.DATA_DIR.glob("spaces/*/echoes.npz")}

    before = kept()
    assert len(before) == 2
    add_product("new", (5, 200, 5))
    build_index()
    assert kept() == before
    for path in settings.DATA_DIR.glob("spaces/*/echoes.npz"):
        path.write_bytes(b"half of a file")
    add_product("newer", (5, 200, 90))
    build_index()
    assert current_manifest().fit["calibration"]["near_duplicates"].keys() == {"style", "colour"}


# --- over HTTP and on the command line ---------------------------------------------------------
def test_the_api_takes_wishes_filters_cutoff_and_variety(shoes: Product, client: Client) -> None:
    answer = client.get(SIMILAR, {"same": "gender,product_type", "k": "3"}).json()
    assert [match["product_id"] for match in answer["matches"]] == ["sky", "blue", "rose"]
    assert answer["relaxed"] == [{"wish": "product_type", "wanted": ["Heels"], "to": "any"}]
    answer = client.get(f"{SIMILAR}?colour=Blue&colour=Plum&relax=false&diversity=0.5").json()
    assert {match["product_id"] for match in answer["matches"]} == {"plum", "blue"}
    answer = client.get(SIMILAR, {"min_score": "0.999"}).json()
    assert (answer["matches"], answer["min_score"]) == ([], 0.999)
    assert client.get(SIMILAR, {"min_score": CALIBRATED, "differ": "gender"}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"same": "gender,size"}, "same", "'size' is none of gender"),
        ({"diversity": "2"}, "diversity", "less than or equal to 1"),
        ({"min_score": "nan"}, "min_score", "neither a number nor 'calibrated'"),
        ({"relax": "perhaps"}, "relax", "valid boolean"),
        ({"colour": "x" * 101}, "colour", "no more than 100"),
    ],
)
def test_the_api_names_what_makes_no_sense(
    shoes: Product, client: Client, asked: dict[str, str], field: str, says: str
) -> None:
    answer = client.get(SIMILAR, asked)
    assert answer.status_code == 400
    assert says in str(errors_of(answer)[field])


def test_several_products_take_filters_in_json(shoes: Product, client: Client) -> None:
    body = {"like": ["red"], "gender": ["Men"], "relax": False}
    answer = client.post("/api/v1/similar/", body, content_type="application/json").json()
    assert [match["product_id"] for match in answer["matches"]] == ["plum"]


def test_the_command_takes_them_too(shoes: Product, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("similar", "red", "-k3", "--same", "product_type", "--only", "gender=Women", "--diversity", "0.1")
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "Too few: product_type need no longer be Heels, any value may stand in."
    assert [line.split()[1] for line in printed.splitlines()[1:]] == ["sky", "blue", "rose"]


def test_the_answer_says_how_the_index_was_asked(client: Client, shoes: Product, capsys: Any) -> None:
    assert "plan" not in client.get(SIMILAR).json()
    (plan,) = client.get(f"{SIMILAR}?explain=plan").json()["plan"]
    assert (plan["how"], plan["selected"], plan["of"]) == ("everything", 5, 5)
    narrowed = client.get(f"{SIMILAR}?explain=plan&product_type=Heels&relax=false").json()
    assert [(plan["how"], plan["selected"]) for plan in narrowed["plan"]] == [("range", 3)]
    assert "the index is exact" in narrowed["plan"][0]["why"]
    assert "explain" in errors_of(client.get(f"{SIMILAR}?explain=everything"))
    call_command("similar", "red", "--only", "product_type=Heels", "--no-relax", "--plan")
    assert "Asked by range: the index is exact; 3 of 5 looks might answer" in capsys.readouterr().out


def test_any_query_set_narrows_the_matches_and_gives_in_to_nothing(shoes: Product) -> None:
    some = Product.objects.filter(product_id__in=["plum", "blue"])
    assert ids(similar_to(shoes, 12, refinement=Refinement(among=some))) == ["plum", "blue"]
    narrowed = Refinement(among=some, same=("gender",))
    assert ids(similar_to(shoes, 12, refinement=narrowed)) == ["blue", "plum"]
    assert ids(similar_to(shoes, refinement=Refinement(among=some, only={"gender": ("Men",)}, relax=False))) == ["plum"]


def test_a_filter_holds_for_what_has_changed_a_moment_ago(shoes: Product, add_product: AddProduct) -> None:
    heels = Refinement(only={"product_type": ("Heels",)}, relax=False)
    assert ids(similar_to(shoes, refinement=heels)) == ["sky", "blue"]
    Product.objects.filter(product_id="rose").update(product_type="Heels")  # sends no signal
    assert ids(similar_to(shoes, refinement=heels)) == ["rose", "sky", "blue"]
    Product.objects.filter(product_id="sky").update(hidden=True)
    assert ids(similar_to(shoes, refinement=heels)) == ["rose", "blue"]
    Product.objects.filter(product_id="blue").delete()
    add_product("ruby", (205, 0, 0), product_type="Heels")
    embed_without_building()
    assert ids(similar_to(shoes, refinement=heels)) == ["ruby", "rose"]


def test_where_nearly_all_are_hidden_those_that_are_left_are_found(add_product: AddProduct) -> None:
    asked = add_product("red", (200, 0, 0))
    for number in range(60):
        add_product(f"near-{number}", (200, number, number), hidden=True)
    for number in range(3):
        add_product(f"far-{number}", (0, 0, 200 + number))
    build_index()
    answer = similar_to(asked, 3)
    assert sorted(ids(answer)) == ["far-0", "far-1", "far-2"]
    assert len(answer.plans) == 2

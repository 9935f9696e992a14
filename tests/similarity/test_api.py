"""Similarity over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from catalog.models import ApiKey, Product
from similarity import serving
from similarity.building import build_index
from similarity.builds import builds_dir, current_manifest
from similarity.curating import pin
from tests.problems import errors_of, problem_of
from tests.processes import environment, run_python
from tests.similarity.conftest import AddProduct, png


@pytest.fixture
def shop(reds_and_blues: dict[str, Product]) -> dict[str, Product]:
    build_index()
    return reds_and_blues


# --- GET /api/v1/products/<id>/similar/ --------------------------------------------------------


def test_similar_is_the_json_of_the_command(
    client: Client, shop: dict[str, Product], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("similar", "red", "-k", "2", "--mix", "style:1", "--json")
    answer = client.get("/api/v1/products/red/similar/?k=2&mix=style:1")
    assert answer.json() == json.loads(capsys.readouterr().out)
    assert [match["product_id"] for match in answer.json()["matches"]] == ["rose", "plum"]


def test_similar_gives_twelve_unless_told(client: Client, shop: dict[str, Product], add_product: AddProduct) -> None:
    for number in range(12):
        add_product(f"more-{number}", (number * 20, 90, 40))
    build_index()
    assert len(client.get("/api/v1/products/red/similar/").json()["matches"]) == 12
    assert len(client.get("/api/v1/products/red/similar/?k=15").json()["matches"]) == 15


def test_similar_takes_ids_with_slashes(client: Client, shop: dict[str, Product], add_product: AddProduct) -> None:
    add_product("a/b c", (5, 5, 5))
    build_index()
    assert client.get("/api/v1/products/a/b%20c/similar/").json()["product_id"] == "a/b c"


@pytest.mark.parametrize(
    "query", ["k=0", "k=-1", "k=1000000000", "k=x", "mix=style", "mix=style:nan", "mix=style:0", "mix=kind:1"]
)
def test_similar_refuses_nonsense_with_400(client: Client, shop: dict[str, Product], query: str) -> None:
    assert client.get(f"/api/v1/products/red/similar/?{query}").status_code == 400


def test_similar_knows_no_unknown_or_hidden_product(client: Client, shop: dict[str, Product]) -> None:
    Product.objects.filter(product_id="blue").update(hidden=True)
    assert client.get("/api/v1/products/nobody/similar/").status_code == 404
    assert client.get("/api/v1/products/blue/similar/").status_code == 404


def test_similar_without_an_index_is_503_with_the_repair(client: Client, reds_and_blues: dict[str, Product]) -> None:
    answer = client.get("/api/v1/products/red/similar/")
    assert "build_index" in problem_of(answer, 503)["reason"]


def test_similar_may_be_kept_a_minute_and_is_asked_about_then(
    client: Client, shop: dict[str, Product], add_product: AddProduct
) -> None:
    first = client.get("/api/v1/products/red/similar/")
    assert first.headers["Cache-Control"] == "public, max-age=60"
    known = {"if-none-match": first.headers["ETag"]}
    assert client.get("/api/v1/products/red/similar/", headers=known).status_code == 304
    assert client.get("/api/v1/products/blue/similar/", headers=known).status_code == 200
    pin(shop["red"], shop["blue"])
    assert client.get("/api/v1/products/red/similar/", headers=known).status_code == 200


# --- GET /api/v1/builds/ -----------------------------------------------------------------------


def ask_builds(**allowed: bool) -> Any:
    key = ApiKey.objects.create_key(name="Night", **allowed)[1]
    return Client(headers={"authorization": f"Api-Key {key}"}).get("/api/v1/builds/")


def test_the_stored_builds_are_listed_for_who_has_a_key_for_them(client: Client, shop: dict[str, Product]) -> None:
    first = current_manifest().id
    build_index(name="second")
    answer = ask_builds(builds=True)
    assert answer.headers["Cache-Control"] == "no-store"
    listed = answer.json()
    assert listed["current"] == current_manifest().id
    assert [build["build"] for build in listed["builds"]] == [current_manifest().id, first]
    build = listed["builds"][0]
    assert {name: build[name] for name in ("name", "current", "former", "model", "looks")} == {
        "name": "second",
        "current": True,
        "former": False,
        "model": "toy",
        "looks": 4,
    }
    assert build["size"] > 0
    assert build["age_s"] >= 0


def test_a_builds_figures_are_those_of_its_report(client: Client, shop: dict[str, Product]) -> None:
    path = builds_dir() / "reports" / f"{current_manifest().id}.json"
    path.parent.mkdir(exist_ok=True)
    report = {"k": 10, "labels": {"colour": {"p_at_k": 0.5}}, "baseline": {"labels": {"colour": {"p_at_k": 0.25}}}}
    path.write_text(json.dumps(report))
    (build,) = ask_builds(builds=True).json()["builds"]
    assert build["figures"] == {"colour": {"precision": 0.5, "plain": 0.25}}


def test_builds_are_for_nobody_else(client: Client, admin_client: Client, shop: dict[str, Product]) -> None:
    for somebody in (client, admin_client):
        problem_of(somebody.get("/api/v1/builds/"), 401)
    problem_of(ask_builds(products=True, builds=False), 403)


def test_before_the_first_build_the_list_is_empty(db: None) -> None:
    assert ask_builds(builds=True).json() == {"current": None, "builds": []}


# --- POST /api/v1/search/image/ ----------------------------------------------------------------


def upload(client: Client, data: bytes, **fields: Any) -> Any:
    image = SimpleUploadedFile("query.png", data, content_type="image/png")
    return client.post("/api/v1/search/image/", {"image": image, **fields})


def test_an_uploaded_picture_finds_its_like(client: Client, shop: dict[str, Product]) -> None:
    answer = upload(client, png((0, 0, 180)), k=1).json()
    assert answer["product_id"] is None
    assert [match["product_id"] for match in answer["matches"]] == ["blue"]


@pytest.mark.parametrize("data", [b"", b"no picture", png((1, 2, 3))[:-20], png((0, 0, 0), (10_001, 1))])
def test_what_is_no_picture_is_refused_with_400(client: Client, shop: dict[str, Product], data: bytes) -> None:
    answer = upload(client, data)
    assert errors_of(answer)["image"]


def test_a_picture_is_required(client: Client, shop: dict[str, Product]) -> None:
    assert client.post("/api/v1/search/image/", {}).status_code == 400
    assert client.post("/api/v1/search/image/", "<a/>", content_type="text/xml").status_code == 415


# --- GET /api/v1/index/, /readyz ---------------------------------------------------------------


def test_the_index_tells_what_it_holds(client: Client, shop: dict[str, Product], add_product: AddProduct) -> None:
    add_product("new", (3, 3, 3))
    status = client.get("/api/v1/index/").json()
    assert {key: status[key] for key in ("state", "products", "waiting", "model", "looks")} == {
        "state": "ok",
        "products": 5,
        "waiting": 1,
        "model": "toy",
        "looks": 4,
    }
    assert status["build"] == current_manifest().id
    assert status["age_s"] >= 0
    assert set(status["near_duplicates"]) == {"style", "colour"}
    assert status["cutoff"] is None  # of four products, nothing can be said


def test_a_broken_index_is_called_broken(client: Client, shop: dict[str, Product]) -> None:
    (builds_dir() / current_manifest().id / "rows.npy").unlink()
    serving.reset_index()
    assert client.get("/api/v1/index/").json()["state"] == "broken"


def test_readiness_follows_the_index(client: Client, reds_and_blues: dict[str, Product]) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    build_index()
    assert client.get("/readyz").json() == {"ready": True, "trouble": {}, "degraded": {}}
    (builds_dir() / "CURRENT").write_text("nowhere")
    assert client.get("/readyz").status_code == 503


# --- POST /get_similar -------------------------------------------------------------------------


def ask_recipe(client: Client, body: Any) -> Any:
    return client.post("/get_similar", body if isinstance(body, str) else json.dumps(body), "application/json")


def test_the_recipes_front_end_gets_three_addresses(client: Client, shop: dict[str, Product]) -> None:
    for product in shop.values():
        Product.objects.filter(pk=product.pk).update(image_url=f"https://shop.example/{product.product_id}.jpg")
    answer = ask_recipe(client, {"image_path": "https://shop.example/red.jpg"})
    assert answer.json() == {
        "similar_images": [f"https://shop.example/{name}.jpg" for name in ("rose", "plum", "blue")]
    }


def test_products_without_address_answer_to_where_their_picture_lies(client: Client, shop: dict[str, Product]) -> None:
    path = shop["red"].image.url
    for address in (path, f"http://testserver{path}"):
        similar = ask_recipe(client, {"image_path": address}).json()["similar_images"]
        assert similar[0] == f"http://testserver{shop['rose'].image.url}"
        assert len(similar) == 3


def test_it_needs_no_session_and_no_csrf_token(shop: dict[str, Product]) -> None:
    answer = ask_recipe(Client(enforce_csrf_checks=True), {"image_path": shop["red"].image.url})
    assert answer.status_code == 200
    assert not answer.cookies


@pytest.mark.parametrize("address", ["https://shop.example/unknown.jpg", "/media/images/nothing.jpg", "http://["])
def test_an_unknown_picture_is_404(client: Client, shop: dict[str, Product], address: str) -> None:
    assert ask_recipe(client, {"image_path": address}).status_code == 404


@pytest.mark.parametrize("body", ["", "{", "[]", "3", "null", {}, {"image_path": 5.5, "x": 1}, {"image_path": ""}])
def test_a_malformed_question_is_400(client: Client, shop: dict[str, Product], body: Any) -> None:
    if body == {"image_path": 5.5, "x": 1}:
        assert ask_recipe(client, body).status_code in (400, 404)
    else:
        assert ask_recipe(client, body).status_code == 400


def test_json_nested_without_end_is_400(client: Client, shop: dict[str, Product]) -> None:
    assert ask_recipe(client, "[" * 200_000).status_code == 400


def test_a_request_that_is_too_large_is_413_in_json(client: Client, shop: dict[str, Product]) -> None:
    answer = ask_recipe(client, json.dumps({"image_path": "x" * 3_000_000}))
    assert answer.status_code == 413
    assert answer.json() == {"detail": "The request is too large."}


# --- pages -------------------------------------------------------------------------------------


def test_the_web_process_shows_pages_without_torch(tmp_path: Path) -> None:
    code = """
import django, sys
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.test import Client
from catalog.models import ApiKey, Product
Product.objects.create(product_id="1", title="One")
client = Client(HTTP_HOST="localhost")
for path in ("/", "/products/1/", "/api/v1/products/", "/api/v1/index/", "/admin/login/"):
    assert client.get(path).status_code == 200, path
assert not {"torch", "transformers"} & set(sys.modules), "a page has imported the network"
"""
    run_python("-c", code, env=environment(tmp_path))


# --- POST /api/v1/similar/ ---------------------------------------------------------------------


def test_several_products_are_asked_for_together(client: Client, shop: dict[str, Product]) -> None:
    asked = {"like": ["red", "blue"], "unlike": [], "k": 1, "mix": "style:1", "collapse": True}
    answer = client.post("/api/v1/similar/", json.dumps(asked), content_type="application/json")
    assert answer.status_code == 200
    assert answer.json()["product_id"] is None
    assert [match["product_id"] for match in answer.json()["matches"]] == ["plum"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"like": []},
        {"like": "red"},
        {"like": ["nobody"]},
        {"like": ["red"], "unlike": ["nobody"]},
        {"like": ["red"], "mix": "style:nan"},
        {"like": ["red"], "k": 0},
        {"like": ["red"] * 51},
        {"like": [["red"]]},
    ],
    ids=str,
)
def test_several_refuses_nonsense_with_400(client: Client, shop: dict[str, Product], asked: dict[str, Any]) -> None:
    answer = client.post("/api/v1/similar/", json.dumps(asked), content_type="application/json")
    assert answer.status_code == 400

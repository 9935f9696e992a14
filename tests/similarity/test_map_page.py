"""The page /map/ and what its script asks for: nothing that visitors may not see leaves the server."""

from __future__ import annotations

import gzip
import io
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from PIL import Image

from catalog.models import Product
from similarity.building import build_index
from similarity.maps import serving, storage
from similarity.maps.areas import MAX_POINTS, Polygon
from similarity.maps.building import build_map
from similarity.maps.sheets import UNITS, TileName, box_of, cells_across
from similarity.maps.storage import CatalogueMap
from tests.problems import errors_of
from tests.similarity.conftest import AddProduct, give_picture, png


@dataclass(frozen=True)
class Places:
    """What the script reads out of places.bin."""

    key: str
    cells: list[tuple[int, int]]
    labels: dict[str, list[str]]
    """Each picture's value."""


def read(content: bytes) -> Places:
    length = int.from_bytes(content[:4], "little")
    head = json.loads(content[4 : 4 + length])
    numbers = np.frombuffer(content[4 + length :], "<u2")
    count = head["count"]
    cells = [(int(x), int(y)) for x, y in numbers[: 2 * count].reshape(-1, 2)]
    codes = numbers[2 * count :].reshape(len(head["labels"]), count)
    labels = {
        label["name"]: [["", *label["values"]][code] for code in line]
        for label, line in zip(head["labels"], codes.tolist(), strict=True)
    }
    return Places(head["map"], cells, labels)


@pytest.fixture
def shop(add_product: AddProduct) -> dict[str, Product]:
    """Four shirts and two scarves, on a map."""
    cache.clear()  # of the menu
    found = {}
    for name, colour, kind in (
        ("red", (200, 0, 0), "Shirts"),
        ("rose", (200, 60, 60), "Shirts"),
        ("plum", (150, 30, 110), "Shirts"),
        ("navy", (10, 10, 120), "Shirts"),
        ("blue", (0, 0, 200), "Scarves"),
        ("sky", (90, 150, 220), "Scarves"),
    ):
        found[name] = add_product(name, colour, product_type=kind, gender="Women", title=f"A {name} piece")
    build_index()
    build_map()
    return found


@pytest.fixture
def shown(shop: dict[str, Product]) -> CatalogueMap:
    return serving.get_map()


def cell_of(shown: CatalogueMap, product: Product) -> tuple[int, int]:
    ((column, row),) = shown.cells[shown.rows == product.embedding_row].tolist()
    return column, row


def around(shown: CatalogueMap, *some: Product) -> str:
    """The smallest rectangle with these, as an area."""
    cells = [cell_of(shown, product) for product in some]
    columns, rows = zip(*cells, strict=True)
    return str(Polygon.rectangle(shown.manifest.key, min(columns), min(rows), max(columns) + 1, max(rows) + 1))


def places(client: Client) -> Places:
    return read(client.get("/map/places.bin").content)


def grid_ids(client: Client, query: str) -> set[str]:
    page = client.get(f"/{query}").content.decode()
    return set(re.findall(r'<a class="card" href="/products/([^/]+)/">', page))


# --- the page --------------------------------------------------------------------------------------


def test_visitors_are_told_that_there_is_no_map_and_staff_with_which_command(client: Client, db: None) -> None:
    page = client.get("/map/").content.decode()
    assert "There is no map yet" in page and "build_map" not in page
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert "python manage.py build_map" in client.get("/map/").content.decode()


def test_the_menu_leads_to_the_map_where_there_is_one(client: Client, shop: dict[str, Product]) -> None:
    assert '<a href="/map/">Map</a>' in client.get("/").content.decode()
    storage.current_path().unlink()
    assert '<a href="/map/">Map</a>' not in client.get("/").content.decode()


def test_the_page_tells_the_map_in_words(client: Client, shop: dict[str, Product]) -> None:
    page = client.get("/map/").content.decode()
    assert "6 products, what looks alike lies together" in page
    areas = re.findall(r'<li><a href="/(\?area=[^"]+)" rel="nofollow">', page.split('class="map-regions"')[1])
    assert len(areas) > 1
    regions = [grid_ids(client, area) for area in areas]
    assert set().union(*regions) == set(shop)
    assert sum(map(len, regions)) == 6, "the regions do not overlap"


def test_without_javascript_the_page_links_the_values(client: Client, shop: dict[str, Product]) -> None:
    page = client.get("/map/").content.decode()
    without = page.split('class="map-without"')[1].split("data-map")[0]
    assert '<a href="/?product_type=Shirts">Shirts</a>' in without
    assert '<a href="/?gender=Women">Women</a>' in without


def test_staff_is_told_that_the_map_is_of_an_earlier_index(
    client: Client, shop: dict[str, Product], add_product: AddProduct
) -> None:
    add_product("young", (0, 200, 0))
    build_index()
    assert "Another index was published" not in client.get("/map/").content.decode()
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert "Another index was published" in client.get("/map/").content.decode()


def test_a_damaged_map_is_no_error_page(client: Client, shown: CatalogueMap) -> None:
    (storage.folder_of(shown.manifest.key) / "cells.npy").write_bytes(b"")
    serving.reset_maps()
    page = client.get("/map/")
    assert page.status_code == 200 and "There is no map yet" in page.content.decode()
    assert client.get("/map/places.bin").status_code == 404
    assert client.get("/").status_code == 200


# --- places ------------------------------------------------------------------------------------------


def test_places_are_those_of_the_map_with_their_labels(
    client: Client, shop: dict[str, Product], shown: CatalogueMap
) -> None:
    found = places(client)
    assert found.key == shown.manifest.key
    assert set(found.cells) == {cell_of(shown, product) for product in shop.values()}
    by_cell = dict(zip(found.cells, found.labels["product_type"], strict=True))
    assert {name: by_cell[cell_of(shown, product)] for name, product in shop.items()} == {
        name: product.product_type for name, product in shop.items()
    }
    assert set(found.labels["colour"]) == {""}


@pytest.mark.parametrize("how", ["hidden", "missing", "deleted", "another picture", "no picture"])
def test_what_visitors_may_not_see_is_nowhere(
    client: Client, shop: dict[str, Product], shown: CatalogueMap, how: str
) -> None:
    gone = shop["plum"]
    cell = cell_of(shown, gone)
    assert cell in places(client).cells
    if how == "hidden":
        Product.objects.filter(pk=gone.pk).update(hidden=True)  # as the admin's action does: no date is changed
    elif how == "missing":
        Product.objects.filter(pk=gone.pk).update(missing_since="2026-11-20T00:00Z")
    elif how == "deleted":
        Product.objects.filter(pk=gone.pk).delete()
    elif how == "another picture":
        give_picture(gone, png((0, 255, 0)))
    else:
        Product.objects.filter(pk=gone.pk).update(embedding_row=None, image_sha256="", image="", thumbnail="")
        gone.refresh_from_db()
        gone.save()
    assert cell not in places(client).cells
    assert len(places(client).cells) == 5
    for unit in UNITS:
        across = cells_across(unit)
        x, y = cell[0] // across, cell[1] // across
        answer = client.get(f"/map/{shown.manifest.key}/tiles/{unit}/{x}/{y}.webp")
        with Image.open(io.BytesIO(answer.content)) as tile:
            assert np.asarray(tile.convert("RGBA").crop(box_of(cell, unit)))[..., 3].max() == 0
        stored = Image.open(io.BytesIO(shown.tile(TileName(unit, x, y)))).convert("RGBA")
        assert np.asarray(stored.crop(box_of(cell, unit)))[..., 3].max() > 0, "the sheets still have it"
    column, row = cell[0] // cells_across(16), cell[1] // cells_across(16)
    known = client.get(f"/map/{shown.manifest.key}/products/{column}/{row}.json").json()["products"]
    assert (cell[0], cell[1]) not in [(piece["x"], piece["y"]) for piece in known]
    if how != "another picture":
        assert gone.title not in json.dumps(known)


def test_a_product_that_is_shown_again_is_back_without_a_new_map(client: Client, shop: dict[str, Product]) -> None:
    Product.objects.update(hidden=True)
    assert places(client).cells == []
    assert client.get("/map/").status_code == 200
    Product.objects.update(hidden=False)
    assert len(places(client).cells) == 6


def test_a_label_that_was_edited_is_another_colour(client: Client, shop: dict[str, Product]) -> None:
    assert set(places(client).labels["colour"]) == {""}
    shop["red"].colour = "Red"
    shop["red"].save()
    assert sorted(places(client).labels["colour"]) == ["", "", "", "", "", "Red"]


def test_places_are_fetched_again_only_where_something_changed(client: Client, shop: dict[str, Product]) -> None:
    first = client.get("/map/places.bin")
    tag = first.headers["ETag"]
    assert client.get("/map/places.bin", headers={"if-none-match": tag}).status_code == 304
    Product.objects.filter(product_id="sky").update(hidden=True)
    assert client.get("/map/places.bin", headers={"if-none-match": tag}).status_code == 200


def test_places_travel_compressed_to_whom_that_suits(client: Client, shop: dict[str, Product]) -> None:
    plain = client.get("/map/places.bin")
    packed = client.get("/map/places.bin", headers={"accept-encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert "Accept-Encoding" in packed.headers["Vary"] and "Accept-Encoding" in plain.headers["Vary"]
    assert packed.headers["ETag"] != plain.headers["ETag"]


# --- tiles and products ------------------------------------------------------------------------------


def test_a_tile_is_fetched_again_only_where_it_changed(
    client: Client, shop: dict[str, Product], shown: CatalogueMap
) -> None:
    path = f"/map/{shown.manifest.key}/tiles/1/0/0.webp"
    first = client.get(path)
    assert first.headers["Content-Type"] == "image/webp"
    assert first.content == shown.tile(TileName(1, 0, 0))
    assert client.get(path, headers={"if-none-match": first.headers["ETag"]}).status_code == 304
    Product.objects.filter(product_id="sky").update(hidden=True)
    assert client.get(path, headers={"if-none-match": first.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["nowhere/tiles/1/0/0.webp", "KEY/tiles/3/0/0.webp", "KEY/tiles/1/99/0.webp", "KEY/tiles/16/99999999999/0.webp"],
)
def test_what_is_no_tile_is_not_there(client: Client, shown: CatalogueMap, path: str) -> None:
    assert client.get(f"/map/{path.replace('KEY', shown.manifest.key)}").status_code == 404


def test_pieces_tell_title_address_and_thumbnail(client: Client, shop: dict[str, Product], shown: CatalogueMap) -> None:
    pieces = client.get(f"/map/{shown.manifest.key}/products/0/0.json").json()["products"]
    (red,) = [piece for piece in pieces if piece["title"] == "A red piece"]
    assert (red["x"], red["y"]) == cell_of(shown, shop["red"])
    assert red["url"] == "/products/red/"
    assert client.get(red["thumbnail"]).status_code == 200
    assert client.get(f"/map/{shown.manifest.key}/products/50/50.json").json() == {"products": []}
    assert client.get("/map/nowhere/products/0/0.json").status_code == 404


# --- areas of the map in the grid ---------------------------------------------------------------------


def test_the_grid_narrows_to_an_area_and_says_so(client: Client, shop: dict[str, Product], shown: CatalogueMap) -> None:
    area = around(shown, shop["red"])
    assert grid_ids(client, f"?area={area}") == {"red"}
    page = client.get(f"/?area={area}").content.decode()
    assert "<h1>area of the map</h1>" in page
    assert f'href="/map/?area={area}"' in page, "and back to the map"
    chip = re.search(
        r'<a class="chip" href="([^"]*)"><span class="visually-hidden">Remove </span>area of the map', page
    )
    assert chip and grid_ids(client, chip[1]) == set(shop)


def test_areas_and_filters_combine(client: Client, shop: dict[str, Product], shown: CatalogueMap) -> None:
    everything = str(Polygon.rectangle(shown.manifest.key, 0, 0, shown.grid.columns, shown.grid.rows))
    assert grid_ids(client, f"?area={everything}") == set(shop)
    assert grid_ids(client, f"?area={everything}&product_type=Scarves") == {"blue", "sky"}
    assert grid_ids(client, f"?area={everything}&q=navy") == {"navy"}
    page = client.get(f"/?area={everything}").content.decode()
    assert f'href="?product_type=Scarves&amp;area={everything}"' in page, "a facet keeps the area"
    assert f'<input type="hidden" form="search" name="area" value="{everything}">' in page


def test_facets_count_within_the_area(client: Client, shop: dict[str, Product], shown: CatalogueMap) -> None:
    page = client.get(f"/?area={around(shown, shop['sky'])}").content.decode()
    assert "Scarves" in page and 'id="product_type-Shirts"' not in page


def test_an_area_shows_nothing_that_is_hidden(client: Client, shop: dict[str, Product], shown: CatalogueMap) -> None:
    Product.objects.filter(product_id="red").update(hidden=True)
    assert grid_ids(client, f"?area={around(shown, shop['red'])}") == set()


def test_an_area_of_a_map_that_is_gone_finds_nothing_and_says_why(client: Client, shop: dict[str, Product]) -> None:
    area = "0123456789ab-0-0-400-0-400-400"
    page = client.get(f"/?area={area}").content.decode()
    assert grid_ids(client, f"?area={area}") == set()
    assert "area of an earlier map" in page


def test_an_area_of_a_former_map_goes_on(
    client: Client, shop: dict[str, Product], shown: CatalogueMap, add_product: AddProduct
) -> None:
    area = around(shown, shop["red"])
    add_product("young", (0, 200, 0))
    build_index()
    assert build_map().map != shown.manifest.key
    assert grid_ids(client, f"?area={area}") == {"red"}


@pytest.mark.parametrize("area", ["nonsense", "0123456789ab-1-1", "0123456789ab" + "-1-1" * (MAX_POINTS + 1), "%00"])
def test_what_is_no_area_is_left_out_of_the_grid_and_refused_by_the_api(
    client: Client, shop: dict[str, Product], area: str
) -> None:
    assert grid_ids(client, f"?area={area}") == set(shop)
    assert "area" in errors_of(client.get(f"/api/v1/products/?area={area}"))


def test_the_api_narrows_to_an_area_too(client: Client, shop: dict[str, Product], shown: CatalogueMap) -> None:
    answer = client.get(f"/api/v1/products/?area={around(shown, shop['blue'])}").json()
    assert [product["product_id"] for product in answer["results"]] == ["blue"]


def test_an_area_asks_no_more_queries_than_any_filter(
    client: Client, shown: CatalogueMap, shop: dict[str, Product], django_assert_num_queries: object
) -> None:
    client.get("/")
    with django_assert_num_queries(2):  # type: ignore[operator]
        client.get(f"/?area={around(shown, *shop.values())}")


def test_without_anything_that_knows_areas_none_is_known(
    client: Client, shop: dict[str, Product], shown: CatalogueMap, settings: object
) -> None:
    settings.CATALOGUE_AREAS = ""  # type: ignore[attr-defined]
    assert grid_ids(client, f"?area={around(shown, shop['red'])}") == set(shop)

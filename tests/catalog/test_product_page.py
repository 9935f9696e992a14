"""`/products/<id>/`: one product and what looks like it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.test import Client
from PIL import Image

from catalog import images
from catalog.models import Product
from similarity import serving
from tests.catalog.material import picture

Add = Callable[..., Product]


@pytest.fixture(autouse=True)
def fresh_index() -> Iterator[None]:
    serving.reset_index()
    yield
    serving.reset_index()


def test_it_shows_the_product_and_links_its_attributes(client: Client, add: Add) -> None:
    add("7", shown=True, title="Navy shirt", category="Apparel", sub_category="Topwear", colour="Navy Blue")
    page = client.get("/products/7/").content.decode()
    assert "<h1>Navy shirt</h1>" in page
    assert 'href="/?colour=Navy+Blue"' in page
    assert 'href="/?category=Apparel&amp;sub_category=Topwear"' in page
    product = Product.objects.get()
    assert f'src="{product.image.url}" width="60" height="80"' in page


def test_it_says_so_while_nothing_is_indexed(client: Client, add: Add) -> None:
    add("7", shown=True)
    assert "being prepared" in client.get("/products/7/").content.decode()


def test_page_and_panel_cost_at_most_six_queries(
    client: Client, add: Add, settings: Any, django_assert_max_num_queries: Any
) -> None:
    for number in range(14):
        add("x" * (number + 1), shown=True)
    call_command("build_index", model="efficientnet-lite0", verbosity=0)
    assert client.get("/products/x/").content.decode().count('class="card"') == 12
    with django_assert_max_num_queries(6):
        client.get("/products/x/")


@pytest.mark.parametrize("product_id", ["0042", "a b", "a/b", "50%", "what?", "c#", "é", "a+b", "x&y", "similar/z"])
def test_odd_ids_have_pages(client: Client, add: Add, product_id: str) -> None:
    product = add(product_id)
    assert client.get(product.get_absolute_url()).status_code == 200
    assert client.get(f"/products/{quote(product_id, safe='')}/").status_code == 200
    assert client.get("/").status_code == 200


def test_unknown_products_get_a_friendly_404(client: Client, db: None) -> None:
    answer = client.get("/products/nobody/")
    assert answer.status_code == 404
    assert "See all products" in answer.content.decode()


def test_hidden_products_are_there_for_staff_only(client: Client, admin_client: Client, add: Add) -> None:
    add("7", hidden=True)
    assert client.get("/products/7/").status_code == 404
    assert "Visitors do not see this product" in admin_client.get("/products/7/").content.decode()


def test_further_columns_are_shown_and_only_web_addresses_are_links(client: Client, add: Add) -> None:
    add("7", extra={"Price": "19.90", "Shop": "https://shop.example/7", "Evil": "javascript:alert(1)", "B": "<b>x"})
    page = client.get("/products/7/").content.decode()
    assert "19.90" in page
    assert '<a href="https://shop.example/7" rel="noopener nofollow">' in page
    assert 'href="javascript:' not in page
    assert "<b>x" not in page


def test_without_picture_there_is_a_placeholder(client: Client, add: Add) -> None:
    add("7")
    page = client.get("/products/7/").content.decode()
    assert "no-picture.svg" in page
    assert "Without a picture, there is nothing to compare" in page


def test_search_engines_read_the_product_and_nothing_in_it_ends_the_script(client: Client, add: Add) -> None:
    title = "</script><script>alert(1)</script> & <!-- Top"
    add("a/7", shown=True, title=title, category="Apparel", product_type="Tops", colour="Navy Blue")
    page = client.get("/products/a/7/").content.decode()
    assert "<script>alert" not in page
    data = json.loads(page.split('<script type="application/ld+json">')[1].split("</script>")[0])
    assert (data["@type"], data["name"], data["sku"]) == ("Product", title, "a/7")
    assert data["url"] == "http://testserver/products/a/7/"
    assert data["image"].startswith("http://testserver/media/images/")
    assert (data["category"], data["color"]) == ("Apparel > Tops", "Navy Blue")
    assert "audience" not in data


def test_a_shared_link_has_title_picture_and_words(client: Client, add: Add) -> None:
    add("7", shown=True, title="Navy shirt", colour="Navy Blue", product_type="Shirts", gender="Men")
    page = client.get("/products/7/").content.decode()
    described = dict(re.findall(r'<meta property="og:([^"]+)" content="([^"]*)">', page))
    assert described["title"] == "Navy shirt"
    assert described["description"] == "Navy shirt. Navy Blue Shirts, Men."
    assert (described["image:width"], described["image:height"]) == ("60", "80")
    assert described["image:alt"] == "Navy Blue Shirts, Men"


# --- pictures ----------------------------------------------------------------------------------


def test_pictures_are_cached_for_ever_and_are_nothing_but_pictures(client: Client, add: Add) -> None:
    product = add("7", shown=True)
    for file, kind in ((product.image, "image/png"), (product.thumbnail, "image/webp")):
        answer = client.get(file.url)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get(product.image.url).getvalue() == picture((20, 80, 40))


@pytest.mark.parametrize(
    "path", ["secret_key", "../secret_key", "images/../../secret_key", "images/ab/x.jpg", "images/ab/.part", ""]
)
def test_nothing_else_of_the_folder_is_served(client: Client, db: None, data_dir: Path, path: str) -> None:
    (data_dir / "media").mkdir(parents=True)
    for place in (data_dir, data_dir / "media"):
        (place / "secret_key").write_text("secret")
    assert client.get(f"/media/{path}").status_code == 404


def srcset(page: bytes, kind: str) -> dict[str, int]:
    """Address → width in pixels of what the first picture of that kind offers."""
    found = re.search(rf'class="(?:{kind})\b.*?srcset="([^"]+)"', page.decode(), flags=re.DOTALL)
    assert found
    offers = [offer.rsplit(" ", 1) for offer in found[1].split(", ")]
    return {address: int(width.removesuffix("w")) for address, width in offers}


def give(product: Product, data: bytes) -> None:
    images.accept([images.Acceptance(product.pk, images.store(images.verify(data)), "test")])


def test_pictures_come_in_the_sizes_that_screens_show(client: Client, add: Add) -> None:
    give(add("7"), picture(size=(1500, 2000)))
    cards, page = (
        srcset(client.get("/").content, "card"),
        srcset(client.get("/products/7/").content, "tile tile--large"),
    )
    assert [*cards.values()] == [240, 360]
    assert [*page.values()] == [360, 900]
    for address, width in {**cards, **page}.items():
        answer = client.get(address)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        with Image.open(io.BytesIO(answer.getvalue())) as image:
            assert (image.format, image.width) == ("WEBP", width)


def test_a_small_picture_comes_in_one_size(client: Client, add: Add) -> None:
    give(add("7"), picture(size=(60, 80)))
    assert b"srcset" not in client.get("/").content
    assert b"srcset" not in client.get("/products/7/").content


def test_other_sizes_are_not_made(client: Client, add: Add, data_dir: Path) -> None:
    give(add("7"), picture(size=(1500, 2000)))
    thumbnail = Product.objects.get().thumbnail.url
    for side in ("-321", "-0", "-99999999"):
        assert client.get(thumbnail.replace(".webp", f"{side}.webp")).status_code == 404
    unknown = f"/media/thumbnails/ab/{'ab' * 32}-320.webp"
    assert client.get(unknown).status_code == 404
    assert len([*(data_dir / "media" / "thumbnails").rglob("*.*")]) == 1

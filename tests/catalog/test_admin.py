"""Products are looked after by hand: found, judged, corrected, hidden, given another picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from catalog import images
from catalog.importing.service import ImportOptions, import_catalogue
from catalog.models import Product
from tests.catalog.material import COLUMNS, picture, row, write_csv

pytestmark = pytest.mark.django_db
LIST = "admin:catalog_product_changelist"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A file of three products: one with its picture, one with a broken one, one without."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1.png").write_bytes(picture())
    (folder / "2.png").write_bytes(b"broken")
    rows = [
        row("1", "Red <b>shirt</b>", Price="9.90 & more"),
        row("2", "Blue socks", Colour="Navy"),
        row("3", "Plain hat", Image=""),
    ]
    path = write_csv(tmp_path / "shop.csv", rows, [*COLUMNS, "Price"])
    import_catalogue(ImportOptions(path, images=folder))
    return path


def import_again(path: Path) -> None:
    import_catalogue(ImportOptions(path, images=path.parent / "pictures"))


def change_url(product: Product) -> str:
    return reverse("admin:catalog_product_change", args=[product.pk])


def form_of(product: Product, **changes: Any) -> dict[str, Any]:
    names = ["product_id", "title", "gender", "category", "sub_category", "product_type", "colour", "usage"]
    values = {name: getattr(product, name) for name in [*names, "image_name", "image_url"]}
    rows_of_choices = {"curations-TOTAL_FORMS": "0", "curations-INITIAL_FORMS": "0"}  # similarity's, on the same page
    return {**values, **rows_of_choices, **changes}


def upload(data: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("new.png", data, "image/png")


def test_it_works(admin_client: Client, catalogue: Path) -> None:
    page = admin_client.get(reverse(LIST)).content.decode()
    product = Product.objects.get(product_id="1")
    assert f'src="{product.thumbnail.url}" width="54" height="72"' in page
    assert 'loading="lazy"' in page
    assert "Red &lt;b&gt;shirt&lt;/b&gt;" in page
    assert "failed: This is not a JPEG" in page


def test_the_list_costs_the_same_however_long_it_is(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    Product.objects.bulk_create(Product(product_id=str(n), title=f"Title {n}") for n in range(120))
    with django_assert_max_num_queries(14):
        page = admin_client.get(reverse(LIST)).content.decode()
    assert "Title 49<" in page
    assert "Title 50<" not in page


@pytest.mark.parametrize(("state", "product_id"), [("ok", "1"), ("failed", "2"), ("none", "3")])
def test_products_are_found_by_their_pictures_state(
    admin_client: Client, catalogue: Path, state: str, product_id: str
) -> None:
    found = admin_client.get(reverse(LIST), {"picture": state}).context["cl"].queryset
    assert [product.product_id for product in found] == [product_id]


def test_products_are_found_by_words_and_attributes(admin_client: Client, catalogue: Path) -> None:
    def found(**query: str) -> list[str]:
        products = admin_client.get(reverse(LIST), query).context["cl"].queryset
        return [product.product_id for product in products]

    assert found(q="blue socks") == ["2"]
    assert found(q="3") == ["3"]
    assert found(colour="Navy") == ["2"]
    Product.objects.filter(product_id="1").update(hidden=True)
    assert found(visible="hidden") == ["1"]
    assert found(visible="yes") == ["2", "3"]


def test_the_page_of_a_product_shows_its_picture_and_columns_without_inline_styles(
    admin_client: Client, catalogue: Path
) -> None:
    product = Product.objects.get(product_id="1")
    page = admin_client.get(change_url(product)).content.decode()
    assert f'<a href="{product.image.url}"><img src="{product.thumbnail.url}"' in page
    assert '<tr><th scope="row">Price</th><td>9.90 &amp; more</td></tr>' in page
    assert product.image_sha256 in page
    assert 'style="' not in page
    assert "View on site" in page


def test_a_correction_survives_the_next_import(admin_client: Client, catalogue: Path) -> None:
    product = Product.objects.get(product_id="1")
    answer = admin_client.post(change_url(product), form_of(product, title="By hand", hidden="on"))
    assert answer.status_code == 302
    import_again(catalogue)
    product.refresh_from_db()
    assert (product.title, product.hidden) == ("By hand", True)
    assert product.extra == {"Price": "9.90 & more"}


def test_an_uploaded_picture_is_accepted_and_survives_the_next_import(admin_client: Client, catalogue: Path) -> None:
    product = Product.objects.get(product_id="2")
    data = picture((1, 2, 3), (90, 30))
    answer = admin_client.post(change_url(product), form_of(product, new_picture=upload(data)))
    assert answer.status_code == 302
    import_again(catalogue)
    product.refresh_from_db()
    assert (product.image_width, product.image_height, product.image_error) == (90, 30, "")
    assert product.embedding_row is not None
    assert images.are_stored(str(product.image.name), str(product.thumbnail.name))


def test_a_bad_upload_is_said_at_the_field_and_changes_nothing(admin_client: Client, catalogue: Path) -> None:
    product = Product.objects.get(product_id="1")
    form = form_of(product, title="Not saved", new_picture=upload(picture()[:-9]))
    answer = admin_client.post(change_url(product), form)
    assert answer.status_code == 200
    assert "The picture is incomplete: its end is missing." in answer.content.decode()
    before = product.image_sha256
    product.refresh_from_db()
    assert (product.title, product.image_sha256) == ("Red <b>shirt</b>", before)


def test_a_product_is_added_with_its_picture(admin_client: Client) -> None:
    product = Product(product_id="new/1", title="New")
    answer = admin_client.post(reverse("admin:catalog_product_add"), form_of(product, new_picture=upload(picture())))
    assert answer.status_code == 302
    assert Product.objects.get(product_id="new/1").image_width == 60


def test_an_id_that_cannot_be_an_address_is_refused(admin_client: Client) -> None:
    answer = admin_client.post(reverse("admin:catalog_product_add"), form_of(Product(product_id="a/../b", title="x")))
    assert "It becomes part of an address" in answer.content.decode()
    assert not Product.objects.exists()


def test_naming_another_picture_by_hand_makes_the_next_import_look_for_it(
    admin_client: Client, catalogue: Path
) -> None:
    product = Product.objects.get(product_id="2")
    admin_client.post(change_url(product), form_of(product, image_name="1.png"))
    import_again(catalogue)
    product.refresh_from_db()
    assert product.image_sha256 == Product.objects.get(product_id="1").image_sha256


def test_products_are_hidden_and_shown_together(admin_client: Client, catalogue: Path) -> None:
    chosen = list(Product.objects.filter(product_id__in=["1", "2"]).values_list("pk", flat=True))

    def act(action: str) -> str:
        form = {"action": action, "_selected_action": chosen}
        return admin_client.post(reverse(LIST), form, follow=True).content.decode()

    assert "2 products are hidden now." in act("hide")
    assert Product.objects.visible().count() == 1
    assert "2 products are shown again." in act("show")
    assert Product.objects.visible().count() == 3

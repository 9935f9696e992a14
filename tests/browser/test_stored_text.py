"""What somebody has stored in the catalogue never runs: not on pages, not in the admin, not where it is completed."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.cache import cache
from playwright.sync_api import Dialog, Page, expect

from catalog.models import Product

MARKUP = """'"><img src=x onerror="ran()"><script>ran()</script></script><svg onload=ran()>{{7*7}}"""
ADDRESS = "javascript:ran()"


def look_at(page: Page, address: str) -> None:
    page.goto(address)
    links = page.locator("a").evaluate_all("links => links.map(link => link.protocol)")
    assert not {"javascript:", "data:"} & set(links), address


def test_stored_text_never_runs(page: Page, shop: str, complaints: list[str]) -> None:
    for product in Product.objects.all():
        product.title = f"{MARKUP} {product.product_id}"
        product.colour = f"Blue {MARKUP}"
        product.product_type = f"Shirts {MARKUP}"
        product.image_url = ADDRESS
        product.extra = {"Link": ADDRESS, MARKUP: MARKUP, "Shop": f" {ADDRESS}", "More": "data:text/html,<script>ran()"}
        product.save()
    cache.clear()
    User.objects.create_superuser("editor", password="of the tests")
    ran: list[str] = []
    page.expose_function("ran", lambda *_: ran.append(page.url))

    def heard(dialog: Dialog) -> None:
        ran.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", heard)
    product = Product.objects.order_by("pk")[0]
    mine = f"/products/{product.product_id}/"
    for path in (
        "/?q=onerror",
        mine,
        f"/like/?like={product.product_id}",
        f"/?q={MARKUP}",
        f"/products/{MARKUP}/",
        "/",
    ):
        look_at(page, shop + path)
    look_at(page, shop)
    assert "&lt;img src=x onerror=" in page.content()
    page.get_by_role("combobox").press_sequentially("shirt")
    expect(page.get_by_role("option").first).to_be_visible()
    page.goto(f"{shop}/admin/login/?next=/admin/catalog/product/")
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("of the tests")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#result_list")).to_be_visible()
    edited = f"/admin/catalog/product/{product.pk}"
    for path in ("/admin/catalog/product/?q=onerror", f"{edited}/change/", f"{edited}/history/", f"{edited}/delete/"):
        look_at(page, shop + path)
    assert ran == []
    # A policy that had to step in would have complained.
    assert [each for each in complaints if "Content Security Policy" in each] == []

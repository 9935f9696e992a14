"""What people do with the shop, in a real browser."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from playwright.sync_api import Browser, Page, ViewportSize, expect

from catalog import images
from catalog.columns import FIELD_OF
from catalog.models import Product
from similarity.working import heartbeat
from tests.catalog.material import row, write_csv
from tests.conftest import DEMO_CATALOGUE
from tests.similarity.test_background import work_off

PHONE = ViewportSize(width=390, height=844)
SMALLEST = ViewportSize(width=320, height=640)


def settled(page: Page) -> None:
    """Once what htmx has put on the page listens too."""
    expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling, .htmx-added")).to_have_count(0)


def fits(page: Page) -> bool:
    """Whether nothing sticks out at the side, once the page has its styles."""
    page.wait_for_load_state()
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_browse_filter_open_and_go_on_from_product_to_product(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(shop)
    expect(page.locator(".card")).to_have_count(24)
    page.get_by_role("link", name=re.compile("^Women")).last.click()
    expect(page).to_have_url(re.compile("gender=Women"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Women")
    page.locator(".card").first.click()
    for _ in range(3):
        expect(page.get_by_role("heading", name="Similar items")).to_be_visible()
        expect(page.locator(".similar .card")).to_have_count(12)
        title = page.locator(".similar .card__title").first.inner_text()
        page.locator(".similar .card").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
    page.go_back()
    expect(page.locator(".similar .card")).to_have_count(12)
    assert complaints == []


def test_search_and_take_filters_away_again(page: Page, shop: str) -> None:
    page.goto(shop)
    page.get_by_role("combobox").fill("navy")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("“navy”")
    found = page.locator(".card").count()
    assert 0 < found < 24
    page.get_by_role("link", name="Remove “navy”").click()
    expect(page.locator(".card")).to_have_count(24)


def test_a_search_is_completed_by_keyboard(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(shop)
    field = page.get_by_role("combobox", name="Search the catalogue")
    field.fill("nav")
    options = page.get_by_role("option")
    expect(options.first).to_have_text(re.compile("Navy Blue.*colour"))
    expect(field).to_have_attribute("aria-expanded", "true")
    field.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    expect(field).to_have_attribute("aria-activedescendant", "suggestion-0")
    field.press("Escape")
    expect(options).to_have_count(0)
    expect(field).to_have_value("nav")
    field.press("ArrowDown")
    expect(options.first).to_be_visible()
    field.press("ArrowDown")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"\?colour=Navy\+Blue$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Navy Blue")
    assert complaints == []


def test_the_grid_is_swapped_and_the_back_button_brings_it_back(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(shop)
    page.evaluate("window.stayed = true")
    page.locator("#gender-Women").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Women")
    expect(page).to_have_url(re.compile(r"\?gender=Women$"))
    expect(page).to_have_title(re.compile("^Women"))
    expect(page.get_by_role("link", name="Português")).to_have_attribute(
        "href", re.compile("next=%2F%3Fgender%3DWomen$")
    )
    expect(page.locator("#gender-Women")).to_be_focused()
    expect(page.locator("#announcement")).to_have_text(page.locator(".page-head__count").inner_text())
    page.locator("#gender-Men").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Women · Men")
    page.get_by_role("combobox").fill("navy")
    page.get_by_role("combobox").press("Enter")
    expect(page).to_have_url(re.compile(r"\?q=navy&gender=Women&gender=Men$"))
    page.get_by_role("link", name="Remove “navy”").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Women · Men")
    expect(page.get_by_role("combobox")).to_have_value("")
    expect(page.locator("main")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("“navy” · Women · Men")
    expect(page.get_by_role("combobox")).to_have_value("navy")
    page.go_back()
    page.go_back()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("All products")
    expect(page.locator(".card")).to_have_count(24)
    assert page.evaluate("window.stayed")
    page.get_by_role("button", name=re.compile("^Collect ")).first.click()
    expect(page.get_by_role("complementary", name="Collected pieces").get_by_role("listitem")).to_have_count(1)
    assert complaints == []


def test_a_misspelt_search_is_one_click_from_the_right_one(page: Page, shop: str) -> None:
    page.goto(f"{shop}/?q=nvay")
    page.get_by_role("link", name="navy", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("“navy”")
    expect(page.locator(".card").first).to_be_visible()


def test_the_panel_is_steered_in_place_and_the_address_remembers(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(f"{shop}/products/V0001/")
    first = page.locator(".similar .card__title").first
    before = first.inner_text()
    page.get_by_role("radio", name="Same style, other colours").check()
    expect(page).to_have_url(re.compile("mode=recoloured"))
    expect(first).not_to_have_text(before)
    expect(page.get_by_role("slider")).to_have_count(0)
    page.get_by_role("radio", name="Similar", exact=True).check()
    expect(first).to_have_text(before)
    settled(page)
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    expect(page).to_have_url(re.compile("balance=2"))
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", "nearly colour alone")
    page.go_back()
    expect(page).not_to_have_url(re.compile("balance=2"))
    expect(page.locator(".similar .card").first).to_be_visible()
    assert complaints == []


def test_collected_pieces_stay_and_are_asked_with(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(shop)
    tray = page.get_by_role("complementary", name="Collected pieces")
    expect(tray).to_be_hidden()
    page.get_by_role("button", name=re.compile("^Collect ")).nth(0).click()
    page.get_by_role("button", name=re.compile("^Collect ")).nth(5).click()
    expect(tray.get_by_role("listitem")).to_have_count(2)
    page.goto(f"{shop}/products/V0001/")
    expect(tray.get_by_role("listitem")).to_have_count(2)
    tray.get_by_role("button", name="Rather not like this").last.click()
    tray.get_by_role("link", name="More like these").click()
    expect(page).to_have_url(re.compile(r"/like/\?like=[^&]+&unlike=[^&]+$"))
    expect(page.locator(".pieces > li")).to_have_count(2)
    expect(page.locator(".similar .card")).to_have_count(24)
    tray.get_by_role("button", name="Empty the tray").click()
    expect(tray).to_be_hidden()
    assert complaints == []


DROP = """async ([selector, data]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], "a.jpg", { type: "image/jpeg" }));
  const init = { bubbles: true, cancelable: true };
  document.dispatchEvent(
    selector === "paste"
      ? new ClipboardEvent("paste", { ...init, clipboardData: transfer })
      : new DragEvent("drop", { ...init, dataTransfer: transfer }),
  );
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_with(
    page: Page, shop: str, complaints: list[str], way: str
) -> None:
    page.goto(shop)
    picture = (DEMO_CATALOGUE / "images" / "V0007.jpg").read_bytes()
    page.evaluate(DROP, [way, base64.b64encode(picture).decode()])
    page.wait_for_url(re.compile("/search/picture/.+"))
    expect(page.locator("#found .card")).to_have_count(24)
    assert "/products/V0007/" in str(page.locator("#found .card").first.get_attribute("href"))
    assert complaints == []


def test_a_picture_is_found_by_its_address_and_narrowed_by_words(
    page: Page, shop: str, settings: Any, complaints: list[str]
) -> None:
    settings.FETCH = "private"  # the picture lies on this machine
    page.goto(f"{shop}/products/V0007/")
    address = page.locator(".product img").first.evaluate("(img) => img.closest('a').href")
    page.get_by_role("search").get_by_role("link", name="Search with a picture").click()
    page.get_by_label(re.compile("^Or the address of a picture")).fill(address)
    page.get_by_role("button", name="Find what looks like it").click()
    page.wait_for_url(re.compile("/search/picture/.+"))
    assert "/products/V0007/" in str(page.locator("#found .card").first.get_attribute("href"))
    all_found = page.locator("#found .card").count()
    page.get_by_label("In words").fill("women")
    page.get_by_label("In words").press("Enter")
    expect(page).to_have_url(re.compile("q=women"))
    expect(page.locator("#found .card")).not_to_have_count(all_found)
    page.get_by_label("In words").fill("bicycle")
    page.get_by_label("In words").press("Enter")
    expect(page.locator("#found .card")).to_have_count(0)
    assert complaints == []


def test_what_is_dropped_and_is_no_picture_is_refused_where_it_was_dropped(page: Page, shop: str) -> None:
    page.goto(f"{shop}/?gender=Women")
    page.evaluate(DROP, ["drop", base64.b64encode(b"no picture at all").decode()])
    expect(page.get_by_role("alert")).to_contain_text("This is not a JPEG, PNG, WebP or GIF picture")
    expect(page).to_have_url(re.compile("gender=Women"))
    page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.setData("text/uri-list", "http://127.0.0.1/picture.jpg");
          document.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
        }"""
    )
    expect(page.get_by_role("alert")).to_contain_text("No picture could be fetched from this address")


def test_a_part_is_chosen_by_keyboard_without_another_upload(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(f"{shop}/search/picture/")
    page.get_by_label(re.compile("^A photograph")).set_input_files(DEMO_CATALOGUE / "images" / "V0007.jpg")
    page.get_by_role("button", name="Find what looks like it").click()
    page.wait_for_url(re.compile("/search/picture/.+"))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    box = page.get_by_role("group", name=re.compile("^The part that is searched with"))
    box.focus()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowUp")
    expect(page).to_have_url(re.compile("crop=0.000%2C0.000%2C1.000%2C0.6"))
    expect(page.locator("#parts [aria-current]")).to_have_count(0)
    page.get_by_label("Gender").select_option("Women")
    expect(page).to_have_url(re.compile("gender=Women"))
    expect(page.locator("#found .card").first).to_be_visible()
    assert set(sent) == {"GET"}
    assert complaints == []


def test_the_picture_opens_large_by_keyboard(page: Page, shop: str, complaints: list[str]) -> None:
    page.goto(f"{shop}/products/V0001/")
    page.get_by_role("link", name="opens the full picture").press("Enter")
    dialog = page.get_by_role("dialog")
    larger = dialog.get_by_role("button", name="Larger or smaller")
    expect(larger).to_be_focused()
    page.keyboard.press("Enter")
    expect(larger).to_have_attribute("aria-pressed", "true")
    assert dialog.evaluate("(zoom) => zoom.scrollHeight > 2 * zoom.clientHeight")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("link", name="opens the full picture")).to_be_focused()
    assert complaints == []


def test_what_was_viewed_is_remembered_until_it_is_forgotten(page: Page, shop: str, complaints: list[str]) -> None:
    recent = page.get_by_role("region", name="Recently viewed")
    page.goto(f"{shop}/products/V0001/")
    expect(recent).to_be_hidden()
    page.goto(f"{shop}/products/V0002/")
    expect(recent.get_by_role("listitem")).to_have_count(1)
    page.goto(shop)
    expect(recent.get_by_role("listitem")).to_have_count(2)
    page.locator("#gender-Women").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Women")
    expect(recent.get_by_role("listitem")).to_have_count(2)
    recent.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile("/products/V0002/$"))
    recent.get_by_role("button", name="Forget these").click()
    expect(recent).to_be_hidden()
    assert complaints == []


def test_it_works_without_javascript(browser: Browser, shop: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shop)
    page.get_by_role("searchbox").fill("navy")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("“navy”")
    page.get_by_role("link", name="Clear all").first.click()
    page.get_by_role("link", name=re.compile("^Accessories")).last.click()
    page.locator(".card").first.click()
    expect(page.locator(".similar .card")).to_have_count(12)
    expect(page.locator(".collect:visible")).to_have_count(0)
    page.get_by_role("radio", name="Same colour").check()
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("mode=same-colour"))
    page.get_by_role("link", name="More like this").click()
    page.get_by_role("link", name=re.compile("^more like this")).first.click()
    expect(page.locator(".pieces > li")).to_have_count(2)
    context.close()


def test_it_works_by_keyboard(page: Page, shop: str) -> None:
    page.goto(shop)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('card')"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/products/"))


@pytest.mark.parametrize("size", [PHONE, SMALLEST])
def test_nothing_sticks_out_on_a_phone(page: Page, shop: str, size: ViewportSize) -> None:
    page.set_viewport_size(size)
    for path in ("/", "/products/V0001/", "/products/V0001/why/V0002/", "/?q=nothing", "/nowhere/"):
        page.goto(shop + path)
        assert fits(page), path


def test_filters_open_and_close_on_a_phone(page: Page, shop: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(shop)
    choice = page.locator(".filters .choice").first
    expect(choice).to_be_hidden()
    page.get_by_text("Filters", exact=True).click()
    expect(choice).to_be_visible()
    choice.click()
    expect(page.locator(".chip").first).to_be_visible()


def test_pictures_are_there_and_take_their_place_before_they_come(page: Page, shop: str) -> None:
    page.goto(f"{shop}/products/V0001/")
    page.wait_for_load_state("networkidle")
    pictures = page.locator("img").all()
    assert len(pictures) == 13
    for picture in pictures:
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("(image) => image.naturalWidth > 0")
        assert picture.get_attribute("width")
        assert picture.get_attribute("alt")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=nothing",
        "/products/V0001/",
        "/products/V0001/why/V0002/",
        "/api/docs/",
        "/api/problems/",
        "/admin/login/",
    ],
)
def test_the_browser_has_nothing_to_complain_of(page: Page, shop: str, complaints: list[str], path: str) -> None:
    page.goto(shop + path)
    page.wait_for_load_state("networkidle")
    if path == "/api/docs/":
        expect(page.locator(".opblock")).to_have_count(19)
    assert complaints == []


def test_why_a_similar_item_is_there(browser: Browser, shop: str) -> None:
    """Without JavaScript: the maps lie where the network has looked, and are warm there."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{shop}/products/V0001/")
    page.get_by_role("link", name=re.compile("^Why")).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why similar?")
    address = page.url.removeprefix(shop).replace("/why/", "/explain/")
    answer = context.request.get(f"{shop}/api/v1{address}").json()
    for at, side in enumerate(("product", "other")):
        picture = page.locator(".pair__picture img").nth(at).bounding_box()
        frame = page.locator(".heat__frame").nth(at).bounding_box()
        assert picture is not None
        assert frame is not None
        left, top, right, bottom = answer[side]["box"]
        # The outline adds a pixel on each side.
        assert frame["x"] == pytest.approx(picture["x"] + left * picture["width"], abs=2)
        assert frame["y"] == pytest.approx(picture["y"] + top * picture["height"], abs=2)
        assert frame["width"] == pytest.approx((right - left) * picture["width"], abs=3)
        assert frame["height"] == pytest.approx((bottom - top) * picture["height"], abs=3)
        assert page.locator(".heat g").nth(at).locator("rect").count() > 3
    context.close()


def log_in(page: Page, shop: str) -> None:
    page.goto(f"{shop}/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("password")
    page.get_by_role("button", name="Log in").click()


def test_the_admin_looks_after_products_and_tells_of_the_index(
    page: Page, shop: str, complaints: list[str], admin_user: Any
) -> None:
    log_in(page, shop)
    index = page.locator(".index-status")
    expect(index).to_contain_text("efficientnet-lite0")
    expect(index).to_contain_text("40 × 384")
    page.get_by_role("link", name="Products", exact=True).first.click()
    expect(page.locator("#result_list tbody tr")).to_have_count(40)
    expect(page.locator("#result_list img").first).to_be_visible()
    page.locator("#result_list tbody th a").first.click()
    expect(page.get_by_role("link", name=re.compile("View on site", re.IGNORECASE))).to_be_visible()
    assert complaints == []


def test_the_admin_switches_builds_and_shows_labels_in_doubt_on_a_phone_too(
    page: Page, shop: str, complaints: list[str], admin_user: Any
) -> None:
    for name in ("spring", "summer", "autumn"):
        call_command("build_index", model="efficientnet-lite0", name=name, verbosity=0)
    page.set_viewport_size(PHONE)
    log_in(page, shop)
    page.get_by_role("link", name="Compare and switch builds").click()
    page.get_by_role("button", name=re.compile("Use this one.*spring")).click()
    expect(page.locator(".messagelist")).to_contain_text("Build spring")
    page.get_by_role("button", name="Go back to the former").click()
    expect(page.locator(".messagelist")).to_contain_text("Build autumn")
    assert fits(page)
    page.goto(f"{shop}/admin/similarity/labeldoubt/")
    expect(page.locator(".doubt img").first).to_be_visible()
    assert fits(page)
    assert complaints == []


def test_the_shop_pins_a_product_and_visitors_see_it_first(
    page: Page, shop: str, complaints: list[str], admin_user: Any
) -> None:
    page.set_viewport_size(PHONE)
    log_in(page, shop)
    page.goto(f"{shop}/products/V0001/")
    last = page.locator(".similar .card__title").last.inner_text()
    page.get_by_role("link", name="Edit in the administration").click()
    page.get_by_role("button", name=re.compile(f"^Pin.*{re.escape(last)}")).click()
    expect(page.locator(".messagelist")).to_contain_text("Pinned")
    expect(page.locator(".preview li").first).to_contain_text(last)
    assert fits(page)
    page.goto(f"{shop}/products/V0001/")
    expect(page.locator(".similar .card__title").first).to_have_text(last)
    expect(page.locator(".similar li").first).to_contain_text("chosen by the shop")
    expect(page.locator(".similar .card")).to_have_count(12)
    assert complaints == []


def test_the_admin_has_a_changed_picture_embedded_and_all_built(
    page: Page, shop: str, complaints: list[str], admin_user: Any
) -> None:
    log_in(page, shop)
    product = Product.objects.get(product_id="V0001")
    page.goto(f"{shop}/admin/catalog/product/{product.pk}/change/")
    page.get_by_label("New picture").set_input_files(DEMO_CATALOGUE / "images" / "V0100.jpg")
    page.get_by_role("button", name="Save", exact=True).click()
    with heartbeat("the test"):
        page.goto(f"{shop}/admin/similarity/indexbuild/")
        expect(page.get_by_text("1 picture waits to be embedded.")).to_be_visible()
        work_off()
        expect(page.get_by_text("1 picture embedded")).to_be_visible()
        expect(page.get_by_text("Every picture is embedded.")).to_be_visible()
        page.get_by_role("button", name="Embed and build now").click()
        task = page.get_by_role("row", name=re.compile("embed and build"))
        expect(task).to_contain_text("waiting")
        work_off()
        expect(task).to_contain_text("0 pictures embedded; build")
    assert complaints == []


def test_duplicates_are_told_apart_or_hidden_side_by_side_by_keyboard(
    page: Page, shop: str, complaints: list[str], admin_user: Any
) -> None:
    for copy, original in (("V0001", "V0020"), ("V0002", "V0021")):
        shown = Product.objects.get(product_id=original)
        verified = images.verify(Path(shown.image.path).read_bytes())
        taker = Product.objects.get(product_id=copy)
        images.accept([images.Acceptance(taker.pk, images.store(verified), "test")])
    log_in(page, shop)
    page.goto(f"{shop}/admin/similarity/duplicate/")
    groups = page.locator(".twins").filter(has=page.get_by_role("heading", name="The same picture", exact=True))
    expect(groups).to_have_count(2)
    groups.first.get_by_role("button", name="Not duplicates").press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("2 products are no duplicates of each other")
    expect(groups).to_have_count(1)
    groups.first.get_by_role("button", name=re.compile("^Keep this one, hide the others")).first.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("1 product is hidden now.")
    expect(groups).to_have_count(0)
    assert Product.objects.filter(product_id__in=["V0002", "V0021"], hidden=True).count() == 1
    assert complaints == []


def test_a_file_is_looked_at_imported_and_its_rejects_are_downloaded(
    page: Page, shop: str, complaints: list[str], admin_user: Any, tmp_path: Path
) -> None:
    first, second = Product.objects.order_by("pk")[:2]
    rows = [row(first.product_id, "Renamed in the file", **like(first)), row(second.product_id, "", **like(second))]
    path = write_csv(tmp_path / "spring.csv", [*rows, row("S1", "New this spring")])
    page.add_init_script(
        "window.refused = []; document.addEventListener('securitypolicyviolation', (e) => refused.push(e.blockedURI))"
    )
    log_in(page, shop)
    page.goto(f"{shop}/admin/catalog/product/")
    page.get_by_role("link", name="Import", exact=True).click()
    page.get_by_label("File", exact=False).first.set_input_files(path)
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator(".tallies li")).to_have_text(
        ["1 would be created", "1 would change", "0 unchanged", "1 rejected"]
    )
    expect(page.locator(".changes del")).to_have_text([first.title])
    expect(page.locator(".changes ins")).to_have_text(["Renamed in the file"])
    expect(page.get_by_role("region", name="Rejected rows")).to_contain_text("ProductTitle is empty.")
    expect(page.get_by_role("region", name="New products")).to_contain_text("New this spring")
    assert page.evaluate("refused") == []
    assert Product.objects.count() == 40

    page.get_by_role("button", name="Import exactly this").click()
    expect(page.locator(".messagelist")).to_contain_text("Imported spring.csv, 3 rows: 1 created, 1 changed")
    assert set(Product.objects.filter(title__contains=" ").values_list("title", flat=True)) >= {
        "Renamed in the file",
        "New this spring",
    }
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 1 row").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert f"3,{second.product_id},ProductTitle is empty.," in text
    assert page.evaluate("refused") == []

    page.goto(f"{shop}/admin/catalog/product/?q=spring")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export", exact=True).click()
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("S1,")
    assert complaints == []


def like(product: Product) -> dict[str, str]:
    """The other columns as the product has them."""
    return {column: getattr(product, name) for column, name in FIELD_OF.items() if name not in ("product_id", "title")}

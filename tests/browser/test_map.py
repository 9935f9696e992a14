"""The map, moved and drawn on as visitors do: by mouse, by keyboard, by fingers."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from catalog.models import Product
from similarity.maps import serving
from similarity.maps.areas import Polygon

Position = tuple[float, float]


def open_map(page: Page, shop: str, query: str = "") -> Locator:
    """The canvas, once everything is drawn."""
    page.goto(f"{shop}/map/{query}")
    drawn(page)
    return page.locator("[data-map] canvas")


def drawn(page: Page) -> None:
    page.wait_for_selector("[data-map][data-ready][data-drawn]")


def view_of(page: Page) -> tuple[float, float, float]:
    """Column and row in the middle, and CSS pixels a unit, as the address keeps them."""
    found = re.search(r"#(-?[\d.]+),(-?[\d.]+),([\d.]+)", page.url)
    assert found, page.url
    return float(found[1]), float(found[2]), float(found[3])


def settled(page: Page, before: str) -> None:
    """Once the address tells of another view, and goes on telling of that one.

    The map writes it when nothing has moved for a fifth of a second: on a busy machine in the middle of a movement too.
    """
    page.evaluate("window.seen = null")
    page.wait_for_function(
        """(before) => {
            if (window.seen?.href !== location.href) window.seen = { href: location.href, since: performance.now() };
            return location.href !== before && performance.now() - window.seen.since > 600;
        }""",
        arg=before,
    )
    drawn(page)


def product_in(cell: tuple[int, int]) -> Product:
    shown = serving.get_map()
    (row,) = shown.rows[(shown.cells == cell).all(axis=1)]
    return Product.objects.get(embedding_row=row)


def some_cell() -> tuple[int, int]:
    column, row = serving.get_map().cells[7].tolist()
    return column, row


def place_of(page: Page, canvas: Locator, cell: tuple[float, float]) -> Position:
    """Where the middle of a cell is on the page."""
    x, y, unit = view_of(page)
    box = canvas.bounding_box()
    assert box
    return (
        box["x"] + box["width"] / 2 + (cell[0] + 0.5 - x) * 3 * unit,
        box["y"] + box["height"] / 2 + (cell[1] + 0.5 - y) * 4 * unit,
    )


def colours_at(canvas: Locator, place: Position) -> list[int]:
    """Red, green, blue and alpha of a pixel of the canvas, at a place on the page."""
    script = """(canvas, [x, y]) => {
        const box = canvas.getBoundingClientRect();
        const scale = canvas.width / box.width;
        return [...canvas.getContext("2d").getImageData((x - box.left) * scale, (y - box.top) * scale, 1, 1).data];
    }"""
    found: list[int] = canvas.evaluate(script, list(place))
    return found


def test_pointing_tells_and_a_click_opens(page: Page, shop_with_map: str, complaints: list[str]) -> None:
    canvas = open_map(page, shop_with_map)
    cell = some_cell()
    product = product_in(cell)
    place = place_of(page, canvas, cell)
    assert colours_at(canvas, place)[3] == 255, "its picture is drawn there"
    page.mouse.move(*place)
    card = page.locator("[data-card]")
    expect(card).to_contain_text(product.title)
    expect(card).to_have_attribute("href", product.get_absolute_url())
    page.mouse.click(*place)
    page.wait_for_url(f"**{product.get_absolute_url()}")
    expect(page.get_by_role("heading", level=1)).to_have_text(product.title)
    assert complaints == []


def test_dragging_moves_and_opens_nothing(page: Page, shop_with_map: str) -> None:
    canvas = open_map(page, shop_with_map)
    before, address = view_of(page), page.url
    x, y = place_of(page, canvas, some_cell())
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=5)
    page.mouse.up()
    settled(page, address)
    after = view_of(page)
    assert after[0] == pytest.approx(before[0] - 60 / (3 * before[2]), abs=0.02)
    assert after[1] == pytest.approx(before[1] - 30 / (4 * before[2]), abs=0.02)
    assert after[2] == before[2]
    assert "/map/" in page.url


def test_the_wheel_zooms_where_the_pointer_is(page: Page, shop_with_map: str) -> None:
    canvas = open_map(page, shop_with_map)
    cell, address = some_cell(), page.url
    place = place_of(page, canvas, cell)
    unit = view_of(page)[2]
    page.mouse.move(*place)
    page.mouse.wheel(0, -200)
    settled(page, address)
    assert view_of(page)[2] > 1.3 * unit
    assert place_of(page, canvas, cell) == pytest.approx(place, abs=1)


def test_near_by_the_products_own_thumbnails_are_drawn(page: Page, shop_with_map: str, complaints: list[str]) -> None:
    column, row = some_cell()
    canvas = open_map(page, shop_with_map, f"#{column + 0.5},{row + 0.5},60")
    page.wait_for_function(
        "(name) => performance.getEntriesByType('resource').some((each) => each.name.includes(name))",
        arg=product_in((column, row)).thumbnail.url,
    )
    assert colours_at(canvas, place_of(page, canvas, (column, row)))[3] == 255
    assert complaints == []


def test_by_keyboard_alone(page: Page, shop_with_map: str) -> None:
    canvas = open_map(page, shop_with_map)
    page.get_by_role("link", name="List what is in view").focus()
    page.keyboard.press("Tab")
    expect(canvas).to_be_focused()
    for key, changed in (("+", 2), ("ArrowRight", 0), ("ArrowDown", 1), ("-", 2), ("0", 0)):
        before, address = view_of(page), page.url
        page.keyboard.press(key)
        settled(page, address)
        assert view_of(page)[changed] != before[changed], key
    said = page.locator("[data-said]")
    expect(said).not_to_be_empty()
    title = page.locator("[data-card-title]").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**/products/**")
    expect(page.get_by_role("heading", level=1)).to_have_text(title)


def test_near_by_an_arrow_goes_from_picture_to_picture(page: Page, shop_with_map: str) -> None:
    shown = serving.get_map()
    taken = {tuple(cell) for cell in shown.cells.tolist()}
    column, row = next((x, y) for x, y in sorted(taken) if (x + 1, y) in taken)
    canvas = open_map(page, shop_with_map, f"#{column + 0.5},{row + 0.5},40")
    address = page.url
    canvas.focus()
    page.keyboard.press("ArrowRight")
    settled(page, address)
    expect(page.locator("[data-said]")).to_contain_text(product_in((column + 1, row)).title)


def test_a_lasso_leads_to_the_products_within_it(page: Page, shop_with_map: str, complaints: list[str]) -> None:
    canvas = open_map(page, shop_with_map)
    cells = serving.get_map().cells
    left, top = np.floor(np.median(cells, axis=0))
    wanted = {product_in((int(x), int(y))).product_id for x, y in cells if x > left and y > top}
    assert 0 < len(wanted) < 20  # where they lie differs a little from one time to the next
    counted = "1 product" if len(wanted) == 1 else f"{len(wanted)} products"
    page.get_by_role("button", name="Lasso").click()
    # Well between the centres of cells, and within the outermost ones.
    left, top, (right, bottom) = left + 1, top + 1, cells.max(axis=0) + 0.9
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    places = [place_of(page, canvas, corner) for corner in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    expect(page.locator("[data-area-count]")).to_have_text(counted)
    expect(page.get_by_role("button", name="Lasso")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("link", name="Show them").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("area of the map")
    expect(page.locator(".grid .card")).to_have_count(len(wanted))
    found = page.locator(".grid .card").evaluate_all("(cards) => cards.map((card) => card.pathname.split('/')[2])")
    assert set(found) == wanted
    page.get_by_role("link", name="Show on the map").click()
    drawn(page)
    expect(page.locator("[data-area-count]")).to_have_text(counted)
    assert complaints == []


def test_the_browser_counts_as_the_server_does(page: Page, shop_with_map: str) -> None:
    """Whatever is drawn: outlines that cross themselves, lines through the very centres of cells."""
    shown = serving.get_map()
    random = np.random.default_rng(4)
    size = [4 * shown.grid.columns, 4 * shown.grid.rows]
    for _ in range(12):
        corners = (random.random((9, 2)) * size).astype(int) // 2 * 2
        polygon = Polygon(shown.manifest.key, tuple((int(x), int(y)) for x, y in corners))
        open_map(page, shop_with_map, f"?area={polygon}")
        count = int(polygon.holds(shown.cells).sum())
        told = "No product" if not count else "1 product" if count == 1 else f"{count} products"
        expect(page.locator("[data-area-count]")).to_have_text(told)


def test_what_is_in_view_can_be_listed(page: Page, shop_with_map: str) -> None:
    open_map(page, shop_with_map)
    page.get_by_role("link", name="List what is in view (40)").click()
    expect(page.locator(".page-head__count")).to_have_text("40 products")


def test_an_area_of_an_earlier_map_is_told(page: Page, shop_with_map: str) -> None:
    open_map(page, shop_with_map, "?area=0123456789ab-0-0-9-0-9-9")
    expect(page.get_by_text("This area was drawn on an earlier map.")).to_be_visible()


def test_colours_and_their_legend(page: Page, shop_with_map: str) -> None:
    canvas = open_map(page, shop_with_map)
    values = {product_in((x, y)).gender: (x, y) for x, y in serving.get_map().cells.tolist()}
    one, other = sorted(values)[:2]

    def seen() -> dict[str, list[int]]:  # the page scrolls to what is pressed
        return {value: colours_at(canvas, place_of(page, canvas, values[value])) for value in (one, other)}

    before = seen()
    page.get_by_label("Colour by").select_option("gender")
    button = page.locator(".map__legend").get_by_role("button", name=re.compile(rf"^{one} \d"))
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
    )
    after = seen()
    paper = np.array([251, 250, 247])
    assert np.abs(np.array(after[other][:3]) - paper).max() < 60, "the others fade into the paper"
    assert after[one] == before[one], "the chosen ones stay as they were, over a bar in their colour"
    page.get_by_label("Colour by").select_option("")
    expect(page.locator(".map__legend")).to_be_hidden()


def test_a_picture_that_is_hidden_meanwhile_is_gone(page: Page, shop_with_map: str) -> None:
    cell = some_cell()
    Product.objects.filter(pk=product_in(cell).pk).update(hidden=True)
    canvas = open_map(page, shop_with_map)
    assert colours_at(canvas, place_of(page, canvas, cell)) == [0, 0, 0, 0]
    expect(page.get_by_role("link", name="List what is in view (39)")).to_be_visible()


def test_back_finds_the_same_view(page: Page, shop_with_map: str) -> None:
    canvas = open_map(page, shop_with_map)
    address = page.url
    page.get_by_role("button", name="Zoom in").click()
    settled(page, address)
    page.get_by_label("Colour by").select_option("colour")
    page.wait_for_url("**,colour")
    before = view_of(page)
    column, row = min(
        serving.get_map().cells.tolist(), key=lambda cell: abs(cell[0] - before[0]) + abs(cell[1] - before[1])
    )
    page.mouse.click(*place_of(page, canvas, (column, row)))
    page.wait_for_url("**/products/**")
    page.go_back()
    drawn(page)
    assert view_of(page) == before
    expect(page.get_by_label("Colour by")).to_have_value("colour")


def test_a_search_from_the_map_and_back_shows_the_map_again(page: Page, shop_with_map: str) -> None:
    open_map(page, shop_with_map)
    page.get_by_role("searchbox").or_(page.get_by_role("combobox", name="Search the catalogue")).fill("shirt")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("shirt")
    page.go_back()
    drawn(page)
    canvas = page.locator("[data-map] canvas")
    assert colours_at(canvas, place_of(page, canvas, some_cell()))[3] == 255


def test_fingers_pan_pinch_and_tap_twice(browser: Browser, shop_with_map: str) -> None:
    size: Any = {"width": 390, "height": 844}
    context = browser.new_context(viewport=size, has_touch=True, device_scale_factor=3)
    page = context.new_page()
    canvas = open_map(page, shop_with_map)
    canvas.scroll_into_view_if_needed()
    assert canvas.evaluate("(canvas) => canvas.width / canvas.getBoundingClientRect().width") == pytest.approx(
        3, abs=0.01
    )
    touch = context.new_cdp_session(page)

    def fingers(kind: str, *points: Position) -> None:
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    before, address = view_of(page), page.url
    x, y = place_of(page, canvas, (before[0] - 0.5, before[1] - 0.5))
    fingers("touchStart", (x, y))
    fingers("touchMove", (x - 30, y))
    fingers("touchMove", (x - 60, y))
    fingers("touchEnd")
    settled(page, address)
    assert view_of(page)[0] > before[0] and view_of(page)[2] == before[2]

    address = page.url
    fingers("touchStart", (x - 40, y), (x + 40, y))
    fingers("touchMove", (x - 60, y), (x + 60, y))
    fingers("touchMove", (x - 80, y), (x + 80, y))
    fingers("touchEnd")
    settled(page, address)
    assert view_of(page)[2] == pytest.approx(2 * before[2], rel=0.1)

    address = page.url
    for _ in range(4):  # where a machine is so busy that a tap takes half a second, it is a long press, and no click
        page.locator("[data-whole]").tap()
        with suppress(PlaywrightTimeout):
            page.wait_for_function("(before) => location.href !== before", arg=address, timeout=7000)
            break
    settled(page, address)
    cell = some_cell()
    place = place_of(page, canvas, cell)
    page.touchscreen.tap(*place)
    expect(page.locator("[data-card]")).to_contain_text(product_in(cell).title)
    assert "/map/" in page.url
    page.touchscreen.tap(*place)
    page.wait_for_url(f"**{product_in(cell).get_absolute_url()}")
    context.close()


def test_without_javascript_there_are_links(browser: Browser, shop_with_map: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{shop_with_map}/map/")
    expect(page.get_by_text("The map itself needs JavaScript.")).to_be_visible()
    expect(page.locator("canvas")).to_be_hidden()
    page.locator(".map-values a").first.click()
    expect(page.locator(".page-head__count")).to_contain_text("product")
    context.close()

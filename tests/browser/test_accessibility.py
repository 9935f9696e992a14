"""No page keeps anybody out: axe-core finds no violation of WCAG 2.2 AA, light or dark, wide or on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from django.core.management import call_command
from playwright.sync_api import Browser, Page, ViewportSize

from similarity.maps.areas import Polygon
from similarity.maps.serving import get_map
from similarity.maps.storage import current_path
from tests.browser.test_journeys import fits, log_in
from tests.catalog.material import COLUMNS, row, write_csv

(AXE,) = (Path(__file__).parent / "vendor").glob("axe-core-*.min.js")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDE, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
PAGES = {
    "grid": "/",
    "grid, narrowed": "/?gender=Women&colour=Black",
    "nothing found": "/?q=nothing",
    "product": "/products/V0001/",
    "product, steered": "/products/V0001/?mode=similar&balance=1&same=colour&same=product_type",
    "why similar": "/products/V0001/why/V0018/",
    "pieces": "/like/?like=V0001&unlike=V0002",
    "no pieces": "/like/",
    "a picture to search with": "/search/picture/",
    "found by a part": "/search/picture/?product=V0001&crop=0.1,0.1,0.5,0.5&gender=Women",
    "problems of the API": "/api/problems/",
    "map": "/map/",
    "map, coloured, with an area": "/map/?area={area}#4,4,20,colour",
    "an area of the map": "/?area={area}",
    "not there": "/products/nowhere/",
}


def violations(page: Page, part: str = "html") -> list[str]:
    """What axe finds in a part of the page: rule, help and the places."""
    page.wait_for_load_state()
    page.add_script_tag(path=AXE)
    result = page.evaluate("([part, rules]) => axe.run(part, {runOnly: rules})", [part, RULES])
    assert len(result["passes"]) > (10 if part == "html" else 4), "axe has not looked"
    return [
        f"{each['id']} ({each['help']}): {[node['html'][:160] for node in each['nodes'][:4]]}"
        for each in result["violations"]
    ]


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"])
def test_axe_finds_nothing(browser: Browser, shop: str, scheme: Literal["light", "dark"], size: ViewportSize) -> None:
    # The strict policy refuses what a test would add to a page, so it is lifted here; other tests hold it.
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page = context.new_page()
    wrong = {}
    current_path().unlink(missing_ok=True)  # of a test before this one
    page.goto(shop + "/map/")
    if found := violations(page):
        wrong["no map"] = found
    call_command("build_map", verbosity=0)
    area = Polygon.rectangle(get_map().manifest.key, 0, 0, 6, 6)
    for name, path in PAGES.items():
        page.goto(shop + path.format(area=area))
        page.wait_for_load_state("networkidle")
        if found := violations(page):
            wrong[name] = found
    page.goto(shop)
    page.get_by_role("button", name="Collect").first.click()
    if found := violations(page):
        wrong["tray"] = found
    page.wait_for_load_state("networkidle")
    context.close()
    assert wrong == {}


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"])
def test_axe_finds_nothing_where_files_are_imported(
    browser: Browser,
    shop: str,
    admin_user: Any,
    tmp_path: Path,
    scheme: Literal["light", "dark"],
    size: ViewportSize,
) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page = context.new_page()
    log_in(page, shop)
    wrong = {}

    def look(name: str) -> None:
        if found := violations(page, "#content"):  # the frame around it is Django's
            wrong[name] = found

    page.goto(f"{shop}/admin/catalog/product/import/")
    look("form")
    page.set_input_files("#id_import_file", {"name": "a.csv", "mimeType": "text/csv", "buffer": b"PK\x03\x04"})
    page.get_by_role("button", name="Show what would change").click()
    page.locator(".errorlist").wait_for()
    look("form with an error")
    path = write_csv(tmp_path / "a.csv", [row("V0001", "Changed", Price="1"), row("N1"), row("")], [*COLUMNS, "Price"])
    page.set_input_files("#id_import_file", path)
    page.get_by_label("Products that the file does not have").select_option("hide")
    page.get_by_role("button", name="Show what would change").click()
    page.get_by_role("region", name="Changes").wait_for()
    look("preview")
    page.get_by_role("button", name="Import exactly this").click()
    page.get_by_role("link", name="Download 1 row").wait_for()
    look("past imports")
    page.locator("#result_list tbody th a").first.click()
    page.get_by_text("missing: hide").wait_for()
    look("one of them")
    assert fits(page)
    context.close()
    assert wrong == {}

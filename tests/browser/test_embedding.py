"""The panel on a page of another origin: the documented example, as a browser shows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Page, expect

from tests.processes import ROOT

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def blog(shop: str) -> Iterator[str]:
    """A server of another origin with the example page, whose policy allows the shop and nothing inline."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/") or "embedding.html"
            content = (EXAMPLES / name).read_text().replace("http://127.0.0.1:8000", shop).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/css" if name.endswith(".css") else "text/html; charset=utf-8")
            policy = f"default-src 'self'; script-src {shop}; connect-src {shop}; img-src {shop} data:"
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_panel_shows_on_a_page_of_another_origin(
    page: Page, shop: str, blog: str, complaints: list[str], settings: Any
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [blog]
    page.goto(blog)
    panel = page.get_by_role("region", name="More of this kind")
    expect(panel.get_by_role("heading", name="More of this kind")).to_be_visible()
    expect(panel.get_by_role("listitem")).to_have_count(4)
    first = panel.get_by_role("link").first
    assert first.evaluate("link => getComputedStyle(link).textTransform") == "none"  # the page's style stays outside
    assert panel.get_by_role("listitem").first.evaluate("item => item.getBoundingClientRect().width") >= 128
    picture = panel.get_by_role("presentation").or_(panel.locator("img")).first
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", value=True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    before = panel.evaluate("panel => panel.getRootNode().host.previousElementSibling.tagName")
    assert before == "SCRIPT"
    first.click()
    expect(page.get_by_role("heading", name="Similar items")).to_be_visible()
    assert page.url.startswith(f"{shop}/products/")
    assert complaints == []


def test_an_origin_that_is_not_allowed_sees_its_page_and_no_more(page: Page, blog: str) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with page.expect_console_message(lambda message: message.text.startswith("Vitrine has no similar items")):
        page.goto(blog)
    expect(page.get_by_text("The story goes on below.")).to_be_visible()
    expect(page.locator(".vitrine-similar")).to_have_count(0)
    assert any("CORS policy" in each for each in said)


def test_the_script_has_an_address_that_stays_and_is_asked_again_cheaply(client: Client) -> None:
    answer = client.get("/embed.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "max-age=3600" in answer.headers["Cache-Control"]
    assert client.get("/embed.js", headers={"if-none-match": answer.headers["ETag"]}).status_code == 304

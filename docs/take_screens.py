"""Screenshots of every page type, of the demo catalogue: `make screens` writes them into docs/screens/.

Light and dark, wide and on a phone; small JPEGs. It needs the requirements of the tests, and Chromium.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "fixtures" / "demo"
SCREENS = ROOT / "docs" / "screens"
USER = "curator"
SIZES = {"wide": (1280, 900), "phone": (390, 844)}
PAGES = {
    "grid": "/",
    "narrowed": "/?gender=Women&category=Footwear",
    "nothing": "/?q=nothing",
    "product": "/products/V0001/",
    "other-colours": "/products/V0001/?mode=recoloured",
    "why": "/products/V0001/why/V0018/",
    "pieces": "/like/?like=V0001&like=V0018&unlike=V0007",
    "picture": "/search/picture/?product=V0001&crop=0.15,0.1,0.7,0.45",
    "map": "/map/#,,,product_type",
    "not-found": "/products/nowhere/",
}
ADMIN_PAGES = {
    "admin": "/admin/",
    "admin-products": "/admin/catalog/product/",
    "admin-import": "/admin/catalog/product/import/",
    "admin-builds": "/admin/similarity/indexbuild/",
    "admin-duplicates": "/admin/similarity/duplicate/",
    "admin-doubts": "/admin/similarity/labeldoubt/",
}
QUALITY, SCALE = 62, 0.5


def main() -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise SystemExit("There is no Chromium here: apt-get install chromium, or set CHROMIUM.")
    with tempfile.TemporaryDirectory(prefix="vitrine-screens-") as folder, served(Path(folder)) as address:
        SCREENS.mkdir(exist_ok=True)
        with sync_playwright() as playwright:
            # Root may not use Chromium's sandbox; the pages are our own.
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for size in SIZES:
                for scheme in ("light", "dark"):
                    take(browser, address, size, scheme)
            browser.close()


@contextmanager
def served(data_dir: Path) -> Iterator[str]:
    """The demo catalogue, embedded, with somebody who may enter the admin; the address of its server."""
    environment = {
        **os.environ,
        "VITRINE_DATA_DIR": str(data_dir),
        "DJANGO_SUPERUSER_PASSWORD": USER,
        "DJANGO_DEBUG": "0",
        "DJANGO_SECRET_KEY": "of the screenshots, " * 5,
        "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost",
    }

    def manage(*arguments: str) -> None:
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)

    manage("migrate", "-v0")
    manage("import_fashion", str(DEMO / "fashion.csv"), "--images", str(DEMO / "images"))
    manage("build_index", "--model", "efficientnet-lite0")
    manage("build_map")
    manage("createsuperuser", "--no-input", "--username", USER, "--email", "curator@example.com")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "config.wsgi", f"--bind={bind}", "--threads=4"], cwd=ROOT, env=environment
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{bind}/healthz", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://{bind}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def take(browser: Browser, address: str, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        locale="en",
    )
    page = context.new_page()
    for name, path in PAGES.items():
        page.goto(address + path)
        shoot(page, f"{name}-{size}-{scheme}")
    page.goto(f"{address}/admin/")
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(USER)
    page.get_by_role("button", name="Log in").click()
    for name, path in ADMIN_PAGES.items():
        page.goto(address + path)
        shoot(page, f"{name}-{size}-{scheme}")
    context.close()


def shoot(page: Page, name: str) -> None:
    """The page from its top, as far as two windows reach, with every picture in it loaded."""
    page.wait_for_load_state("networkidle")
    page.evaluate(
        """() => Promise.all([...document.images].map((image) => {
            image.loading = "eager";
            return image.decode().catch(() => {});
        }))"""
    )
    window = page.viewport_size
    assert window is not None
    full = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shown = full.crop((0, 0, full.width, min(full.height, 2 * window["height"])))
    small = shown.resize((round(SCALE * shown.width), round(SCALE * shown.height)), Image.Resampling.LANCZOS)
    small.save(SCREENS / f"{name}.jpg", quality=QUALITY, optimize=True)
    print(f"docs/screens/{name}.jpg")


if __name__ == "__main__":
    main()

"""Every text of the pages is there in every language."""

from __future__ import annotations

import gettext
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation

from catalog.models import Product
from tests.processes import PATIENCE_S, ROOT

PO = ROOT / "locale" / "pt_BR" / "LC_MESSAGES" / "django.po"
HOLE = re.compile(r"%\((\w+)\)[sd]|%[sd]")


@pytest.fixture(autouse=True)
def own_language() -> Iterator[None]:
    """A request leaves its language behind in this thread."""
    yield
    translation.deactivate()


def entries(path: Path) -> dict[str, list[str]]:
    """Text → its translations, one for each plural form; the header is left out."""
    found = {}
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        parts = re.findall(r'^(msgid|msgid_plural|msgstr(?:\[\d\])?) ((?:".*"\n?)+)', block + "\n", flags=re.MULTILINE)
        texts = [(name, "".join(re.findall(r'"(.*)"', text))) for name, text in parts]
        if texts and texts[0][1]:
            found[texts[0][1]] = [text for name, text in texts if name.startswith("msgstr")]
    return found


def test_every_text_is_translated_with_the_same_holes() -> None:
    for text, translations in entries(PO).items():
        assert all(translations), text
        for translated in translations:
            assert sorted(HOLE.findall(translated)) == sorted(HOLE.findall(text)), text


def test_what_is_compiled_is_what_is_written() -> None:
    with PO.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for text, translations in entries(PO).items():
        plain = text.replace('\\"', '"')
        wanted = translations[0].replace('\\"', '"')
        assert (compiled.gettext(plain) if len(translations) == 1 else compiled.ngettext(plain, plain, 1)) == wanted


@pytest.mark.skipif(not shutil.which("xgettext"), reason="needs gettext")
def test_no_text_of_the_code_is_missing(tmp_path: Path) -> None:
    for folder in ("catalog", "similarity", "config", "templates", "locale"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.mo"))
    command = [sys.executable, "-m", "django", "makemessages", "-l", "pt_BR", "--no-wrap", "--no-location"]
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=PATIENCE_S)
    assert entries(tmp_path / PO.relative_to(ROOT)).keys() == entries(PO).keys()


def test_the_browsers_language_is_spoken_and_can_be_changed(client: Client, db: None) -> None:
    Product.objects.create(product_id="1", title="One")
    page = client.get("/", headers={"accept-language": "pt-BR,pt;q=0.9"}).content.decode()
    assert '<html lang="pt-br">' in page
    assert "Todos os produtos" in page
    answer = client.get("/language/en/", {"next": "/?q=x"}, headers={"accept-language": "pt-BR"})
    assert answer.headers["Location"] == "/?q=x"
    assert '<html lang="en">' in client.get("/", headers={"accept-language": "pt-BR"}).content.decode()


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_changing_the_language_leads_to_no_other_site(client: Client, db: None, elsewhere: str) -> None:
    assert client.get("/language/pt-br/", {"next": elsewhere}).headers["Location"] == "/"
    assert client.get("/language/xx/").status_code == 404


def test_every_language_has_a_name() -> None:
    assert dict(settings.LANGUAGES).keys() == {"en", "pt-br"}

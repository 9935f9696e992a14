"""The README is held true: its settings, its commands, its links."""

from __future__ import annotations

import re

import pytest
from django.core.management import get_commands, load_command_class

from tests.processes import ROOT

README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "config" / "settings.py").read_text()


def test_the_table_of_settings_is_the_code() -> None:
    in_code = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', SETTINGS))
    in_table = set(re.findall(r"^\| `([A-Z_]+)` \|", README, flags=re.MULTILINE))
    assert in_code == in_table


def test_the_table_names_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", README, flags=re.MULTILINE))
    assert "`var`" in rows["VITRINE_DATA_DIR"]
    assert rows["DJANGO_DEBUG"].strip() == "off"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"manage\.py ([a-z_]+)", README))))
def test_every_command_of_the_readme_exists(command: str) -> None:
    assert command in get_commands()


def test_every_option_of_the_readme_exists() -> None:
    for line in re.findall(r"manage\.py ([a-z_]+ .*)", README):
        name, *words = line.split()
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        known = {option for action in parser._actions for option in action.option_strings}
        for word in words:
            if word.startswith("#"):
                break
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{name} has no {word}"


def test_every_make_target_of_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"`make ([a-z-]+)", document.read_text()):
            assert target in targets, f"{document.name}: make {target}"


def test_every_link_to_a_file_leads_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"

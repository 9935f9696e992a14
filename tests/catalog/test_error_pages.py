"""Pages for what went wrong stand alone: nothing that may be broken is asked."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string


@pytest.mark.parametrize(("template", "code"), [("400", "400"), ("403", "403"), ("403_csrf", "403"), ("500", "500")])
def test_it_needs_no_context_and_no_database(template: str, code: str) -> None:
    page = render_to_string(f"{template}.html")
    assert f">{code}<" in page
    assert "See all products" in page
    assert "<style" not in page

"""Markup that Python writes, where pages have so much of it that a template each would take most of their time."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from django.utils.safestring import SafeString


def filled(markup: str, *values: object) -> SafeString:
    """The markup with its `{}` filled, escaped but for what is safe markup already.

    What `django.utils.html.format_html` does, in a third of its time: that wraps every value's escaping in what lazy
    texts need. Here, these are taken in the language of now.
    """
    return SafeString(markup.format(*map(_safe, values)))


def filled_each(separator: str, markup: str, lines: Iterable[Iterable[object]]) -> SafeString:
    """`filled` for each line of values, joined; the separator is markup too."""
    return SafeString(separator.join(markup.format(*map(_safe, line)) for line in lines))


def _safe(value: object) -> str:
    return str(value) if hasattr(value, "__html__") else escape(str(value))

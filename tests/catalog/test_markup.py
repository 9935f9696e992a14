"""Markup that Python writes: what is not markup yet never becomes any."""

from __future__ import annotations

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy, override
from hypothesis import given
from hypothesis import strategies as some

from catalog.markup import filled, filled_each

VALUES = some.one_of(some.text(), some.integers(), some.text().map(mark_safe), some.just(gettext_lazy("Search")))


def test_values_are_escaped_and_markup_is_not() -> None:
    made = filled('<a title="{}">{}</a>', "\"'<&>", mark_safe("<b>{}</b>"))
    assert made == '<a title="&quot;&#x27;&lt;&amp;&gt;"><b>{}</b></a>'
    assert isinstance(made, SafeString)


@given(some.lists(VALUES, min_size=3, max_size=3))
def test_it_says_what_format_html_says(values: list[object]) -> None:
    assert filled("<p {}>{}</p>{}", *values) == format_html("<p {}>{}</p>{}", *values)
    lines = [values, values[::-1]]
    assert filled_each("<br>", "{}-{}-{}", lines) == format_html_join(mark_safe("<br>"), "{}-{}-{}", lines)


def test_lazy_texts_are_in_the_language_of_now() -> None:
    text = gettext_lazy("Search")
    with override("pt-br"):
        assert filled("<b>{}</b>", text) == "<b>Buscar</b>"

"""What somebody who is typing may want: values of attributes, whole words, products. And what they may have meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.urls import reverse
from django.utils.http import urlencode

from catalog import words
from catalog.browsing import Browsing
from catalog.columns import ATTRIBUTES
from catalog.filters import Selection
from catalog.models import Product

LOOKED_AT = 200
"""Products that suggestions are gathered from, the first that match: the work is bounded, whatever the catalogue's
size. A rare value that is missed among them comes with the next letter."""
MOST_VALUES, MOST_WORDS, MOST_PRODUCTS = 4, 2, 4


@dataclass(frozen=True)
class Suggestion:
    kind: str
    """value, words or product."""
    text: str
    attribute: str
    """The field that has the value; empty for the other kinds."""
    url: str

    @property
    def note(self) -> str:
        """The attribute's name for people."""
        return str(Product._meta.get_field(self.attribute).verbose_name) if self.attribute else ""  # type: ignore[union-attr]


def suggest(text: str) -> list[Suggestion]:
    """For beginnings of words: values of attributes, commonest first, then searches, then products. One query."""
    asked = [words.plain(words.folded(word)) for word in words.split(text)]
    if not asked:
        return []
    rows = Product.objects.visible().first_found(text, LOOKED_AT).values_list("product_id", "title", *ATTRIBUTES)
    found = list(rows)
    common = Counter((name, value) for row in found for name, value in zip(ATTRIBUTES, row[2:], strict=True) if value)
    values = [pair for pair, _count in common.most_common() if _has(pair[1], asked)][:MOST_VALUES]
    known = {words.folded(value) for _name, value in values} | {" ".join(asked)}
    searches = [search for search in _searches(found, asked) if search not in known][:MOST_WORDS]
    products = {row[1]: row[0] for row in reversed(found) if _has(row[1], asked)}
    titles = sorted(products.items(), key=lambda item: (not words.folded(item[0]).startswith(asked[0]), item[0]))
    grid = reverse("catalog:grid")
    return [
        *(Suggestion("value", value, name, f"{grid}?{urlencode({name: value})}") for name, value in values),
        *(Suggestion("words", search, "", f"{grid}?{urlencode({'q': search})}") for search in searches),
        *(
            Suggestion("product", title, "", reverse("catalog:product", args=[product_id]))
            for title, product_id in titles[:MOST_PRODUCTS]
        ),
    ]


def did_you_mean(selection: Selection) -> str | None:
    """Its search with the catalogue's nearest words in place of unknown ones, where that finds any product."""
    better = words.corrected(selection.q)
    return better if better and len(Browsing(selection.searching(better), Product.objects.visible())) else None


def _searches(found: Sequence[tuple[str, ...]], asked: Sequence[str]) -> list[str]:
    """The text with its last word completed as products complete it, commonest first."""
    *before, last = asked
    completed = Counter(
        word for row in found for word in set(_words(" ".join(row[1:]))) if word.startswith(last) and word != last
    )
    return [" ".join([*before, word]) for word, _count in completed.most_common(MOST_VALUES + MOST_WORDS)]


def _has(text: str, asked: Sequence[str]) -> bool:
    """Whether each of the words asked for begins a word of the text."""
    there = [*_words(text), words.plain(words.folded(text))]
    return all(any(word.startswith(beginning) for word in there) for beginning in asked)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", words.folded(text))

"""What the catalogue's templates say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from django import template
from django.core.cache import cache
from django.templatetags.static import static
from django.urls import get_script_prefix, reverse
from django.utils.formats import number_format
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from django.utils.translation import gettext, ngettext

from catalog.browsing import all_counts
from catalog.facets import FacetValue
from catalog.filters import FACET_FIELDS
from catalog.markup import filled, filled_each
from catalog.models import Product
from catalog.renditions import card_srcset, page_srcset

register = template.Library()

MENU_FIELDS = ("gender", "category")
MENU_LENGTH = 4
MENU_CACHE_S = 60


@dataclass(frozen=True)
class Link:
    """A word and where it leads."""

    label: str
    url: str
    text: str


def _grid_url(**values: str) -> str:
    return _address(get_script_prefix(), tuple(values.items()))


@lru_cache(maxsize=5000)
def _address(prefix: str, values: tuple[tuple[str, str], ...]) -> str:
    return f"{reverse('catalog:grid')}?{urlencode(values)}"


def _menu_values() -> list[tuple[str, str]]:
    counts = all_counts(MENU_FIELDS)
    return [
        (name, value)
        for name in MENU_FIELDS
        for value in sorted(counts.get(name, {}), key=lambda value: (-counts[name][value], value))[:MENU_LENGTH]
    ]


@register.simple_tag
def facet_choices(values: Sequence[FacetValue]) -> SafeString:
    """List items with the link of each value. Not a template: a page has a hundred of them, and took half its time."""
    chosen = filled('<span class="visually-hidden"> ({})</span>', gettext("chosen; press to remove"))
    return filled_each(
        "\n",
        '<li><a class="choice" id="{}-{}" href="{}" rel="nofollow"{}>'
        '<span class="choice__box" aria-hidden="true"{}></span>'
        '<span class="choice__value">{}{}</span> '
        '<span class="choice__count">{}<span class="visually-hidden"> {}</span>'
        "</span></a></li>",
        (
            (
                item.name,
                quote(item.value, safe=""),
                item.query,
                _CURRENT if item.chosen else "",
                _swatch(item.value) if item.name == "colour" else "",
                item.value,
                chosen if item.chosen else "",
                item.count if item.count < 1000 else number_format(item.count, force_grouping=True),
                ngettext("product", "products", item.count),
            )
            for item in values
        ),
    )


_CURRENT = mark_safe(' aria-current="true"')


@lru_cache(maxsize=500)
def _swatch(colour: str) -> SafeString:
    return filled(' data-swatch="{}"', slugify(colour))


register.filter("page_srcset", page_srcset)

_CARD = (
    '<a class="card" href="{}">\n  <span class="tile"><img{}{}></span>\n  <span class="card__text">\n'
    '    <span class="card__title">{}</span>\n    <span class="card__note">{}{}{}{}</span>\n  </span>\n</a>'
)
_CARD_SIZES = "(min-width: 80rem) 14rem, (min-width: 64rem) 10rem, (min-width: 40rem) 29vw, 43vw"
_LAZY = mark_safe(' loading="lazy"')


@register.simple_tag
def card(product: Product, score: float | None = None, *, lazy: bool = False) -> SafeString:
    """A product as lists show it. Not a template: a page has two dozen of them."""
    note = " · " if product.product_type and product.colour else ""
    likeness = ""
    if score is not None:
        likeness = filled(
            '<span class="card__score"><span class="visually-hidden">{} </span>{} %</span>',
            gettext("Likeness:"),
            percent(score),
        )
    return filled(
        _CARD,
        product.get_absolute_url(),
        _card_picture(product),
        _LAZY if lazy else "",
        product.title,
        product.product_type,
        note,
        product.colour,
        likeness,
    )


def _card_picture(product: Product) -> SafeString:
    if not product.thumbnail:
        address = static("site/no-picture.svg")
        return filled(' class="tile__empty" src="{}" width="240" height="320" alt="" decoding="async"', address)
    thumbnail = product.thumbnail.url
    offered = card_srcset(product, thumbnail)
    width, height = product.thumbnail_size
    return filled(
        ' src="{}"{} width="{}" height="{}" alt="{}" decoding="async"',
        thumbnail,
        filled(' srcset="{}" sizes="{}"', offered, _CARD_SIZES) if offered else "",
        width,
        height,
        picture_text(product),
    )


@register.simple_tag
def main_menu() -> list[Link]:
    """The commonest genders and categories as links into the grid. One query a minute and process."""
    values: list[tuple[str, str]] = cache.get_or_set("catalog.main_menu", _menu_values, MENU_CACHE_S) or []
    return [Link(name, _grid_url(**{name: value}), value) for name, value in values]


@register.simple_tag
def breadcrumb(product: Product) -> list[Link]:
    """Category → sub-category → type, each within the one before it."""
    values: dict[str, str] = {}
    links = []
    for name in ("category", "sub_category", "product_type"):
        if value := getattr(product, name):
            values[name] = value
            links.append(Link(name, _grid_url(**values), value))
    return links


@register.simple_tag
def attributes(product: Product) -> list[Link]:
    """The product's attributes, each with the products that share it."""
    return [
        Link(str(Product._meta.get_field(name).verbose_name), _grid_url(**{name: value}), value)  # type: ignore[union-attr]
        for name in FACET_FIELDS
        if (value := getattr(product, name))
    ]


@register.filter
def picture_text(product: Product) -> str:
    """What the picture shows, in words: "White Tops, Girls"; the title where there are no attributes."""
    thing = f"{product.colour} {product.product_type}".strip()
    return ", ".join(part for part in (thing, product.gender) if part) or product.title


@register.simple_tag
def extra_columns(product: Product) -> list[Link]:
    """The file's other columns; `url` only where the value is the address of a web page.

    What else a browser may take for an address, `javascript:` first of all, stays plain text.
    """
    extra: Any = product.extra
    columns = extra.items() if isinstance(extra, dict) else ()
    return [Link(str(name), _web_address(str(value)), str(value)) for name, value in columns if value not in ("", None)]


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return text if parts.scheme in ("http", "https") and parts.hostname else ""


@register.filter
def percent(score: float) -> int:
    """0..1 → 0..100."""
    return round(100 * min(1.0, max(0.0, score)))

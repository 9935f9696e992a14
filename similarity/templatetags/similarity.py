"""What pages load of similarity: `{% similar_panel product %}` and, for the admin, `{% index_status %}`."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from django import template
from django.template import RequestContext
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import get_text_list
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from catalog.markup import filled, filled_each
from catalog.templatetags.catalogue import card
from similarity.forms import MODES, Panel
from similarity.maps.serving import has_map
from similarity.modes import BALANCES
from similarity.products import Product, label_name
from similarity.refining import Relaxed
from similarity.services import (
    COMPARED,
    DEFAULT_K,
    Answer,
    Match,
    SimilarityUnavailable,
    default_mix,
    index_status,
    similar_to,
)

logger = logging.getLogger(__name__)
register = template.Library()
FEW_VALUES = 3
"""More are no sentence."""


@register.inclusion_tag("similarity/panel.html", takes_context=True)
def similar_panel(context: RequestContext, product: Product, k: int = DEFAULT_K) -> dict[str, Any]:
    """The products that look like this one, as the page's address asks for them.

    Without an index the page stays whole and the panel says why.
    """
    panel = Panel.asked(context["request"].GET)
    answer, reason = Answer(product.product_id, (), {}), ""
    try:
        answer = similar_to(product, k, panel.mix(default_mix()), panel.refinement)
    except SimilarityUnavailable as error:
        logger.warning("No similar items for %s: %s", product.product_id, error)
        reason = _("Similar items are being prepared. Please come back soon.")
    if product.embedding_row is None:
        reason = _("Without a picture, there is nothing to compare.")
    elif answer.waiting:
        reason = _("This picture is new; its similar items appear when the index is next built.")
    return {
        "product": product,
        "answer": answer,
        "panel": panel,
        "modes": MODES,
        "balances": BALANCES,
        "wishes": [(label, label_name(label), value) for label in COMPARED if (value := getattr(product, label))],
        "heading": _("Similar items"),
        "reason": reason or _("Nothing else in the catalogue is enough like it."),
    }


@register.simple_tag
def map_url() -> str:
    """The address of the catalogue's map; "" where none was ever made."""
    return reverse("similarity:map") if has_map() else ""


@register.filter
def relaxed_words(relaxed: Relaxed) -> str:
    """What a visitor is told of a wish that gave in; "" where the product lacks the label."""
    if not relaxed.wanted or len(relaxed.wanted) > FEW_VALUES:
        return ""
    wanted = get_text_list(list(relaxed.wanted), _("or"))
    if relaxed.to == "related":
        return _("Not enough in %(wanted)s: related ones follow.") % {"wanted": wanted}
    return _("Not enough in %(wanted)s: others follow.") % {"wanted": wanted}


_COLLECT = (
    '<button class="collect" type="button" hidden data-collect="{}" data-title="{}" data-thumbnail="{}">'
    '<span class="visually-hidden">{}</span></button>'
)


@register.simple_tag
def collect(product: Product) -> SafeString:
    """The button that lays a product into the tray; hidden until the page's script shows it."""
    thumbnail = product.thumbnail.url if product.thumbnail else ""
    said = _("Collect %(title)s") % {"title": product.title}
    return filled(_COLLECT, product.product_id, product.title, thumbnail, said)


@register.simple_tag
def match_card(match: Match) -> SafeString:
    """A match as lists show it, with why it is here. Not a template, as `catalogue.card` is none."""
    return filled(
        "{}{}\n      {}",
        card(match.product, match.score, lazy=True),
        collect(match.product),
        _why(chips(match)),
    )


def _why(said: list[tuple[str, str]]) -> SafeString:
    if not said:
        return SafeString("")
    items = filled_each("", '<li class="why__{}">{}</li>', said)
    return filled('<ul class="why" aria-label="{}">{}</ul>', _("Why it is here"), items)


@register.simple_tag
def why_link(product_id: str, match: Match) -> SafeString:
    """The way to the page that explains a match."""
    other = match.product
    return filled(
        '<a class="why__link" href="{}" rel="nofollow">{}<span class="visually-hidden"> {}</span></a>',
        reverse("similarity:why", args=[product_id, other.product_id]),
        _("Why?"),
        other.title,
    )


@register.filter
def chips(match: Match) -> list[tuple[str, str]]:
    """(kind, words) of why it is here: ("same", "same gender"), ("different", "Blue, not Navy")."""
    said = []
    if match.pinned:
        said.append(("pinned", _("chosen by the shop")))
    if match.same:
        said.append(("same", _same_words(get_language(), match.same)))
    for own, other in match.different.values():
        said.append(("different", _("%(other)s, not %(own)s") % {"other": other, "own": own}))
    if match.more:
        said.append(("more", ngettext("%(n)d more like it", "%(n)d more like it", match.more) % {"n": match.more}))
    return said


@lru_cache(maxsize=500)  # the same few on every card of every page, and made of a dozen translations each
def _same_words(language: str | None, same: tuple[str, ...]) -> str:
    labels = get_text_list([label_name(name) for name in same], _("and"))
    return _("same %(labels)s") % {"labels": labels}


@register.inclusion_tag("similarity/index_status.html", name="index_status", takes_context=True)
def index_status_panel(context: RequestContext) -> dict[str, Any]:
    """What the index holds, for the admin."""
    return {"status": index_status(), "perms": context["perms"]}


@register.filter
def balance_words(balance: int) -> str:
    """The slider's place, for who hears it."""
    words = {-2: _("shape alone"), -1: _("more by shape"), 1: _("more by colour"), 2: _("nearly colour alone")}
    return words.get(balance, _("shape and colour"))

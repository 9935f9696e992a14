"""What pages load of similarity: `{% similar_panel product %}` and, for the admin, `{% index_status %}`."""

from __future__ import annotations

import logging
from typing import Any

from django import template
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from similarity.products import Product, label_name
from similarity.services import DEFAULT_K, Answer, Match, SimilarityUnavailable, index_status, similar_to

logger = logging.getLogger(__name__)
register = template.Library()


@register.inclusion_tag("similarity/panel.html")
def similar_panel(product: Product, k: int = DEFAULT_K) -> dict[str, Any]:
    """The products that look like this one. Without an index the page stays whole and the panel says why."""
    answer, reason = Answer(product.product_id, (), {}), ""
    if product.embedding_row is None:
        reason = _("Without a picture, there is nothing to compare.")
    else:
        try:
            answer = similar_to(product, k, collapse=True)
        except SimilarityUnavailable as error:
            logger.warning("No similar items for %s: %s", product.product_id, error)
            reason = _("Similar items are being prepared. Please come back soon.")
    if answer.waiting:
        reason = _("This picture is new; its similar items appear when the index is next built.")
    return {
        "answer": answer,
        "heading": _("Similar items"),
        "reason": reason or _("Nothing else in the catalogue compares to it yet."),
    }


@register.filter
def chips(match: Match) -> list[tuple[str, str]]:
    """(kind, words) of what agrees and what differs: ("same", "same gender"), ("different", "Blue, not Navy")."""
    said = []
    if match.same:
        labels = get_text_list([label_name(name) for name in match.same], _("and"))
        said.append(("same", _("same %(labels)s") % {"labels": labels}))
    for own, other in match.different.values():
        said.append(("different", _("%(other)s, not %(own)s") % {"other": other, "own": own}))
    if match.more:
        said.append(("more", ngettext("%(n)d more like it", "%(n)d more like it", match.more) % {"n": match.more}))
    return said


@register.inclusion_tag("similarity/index_status.html", name="index_status")
def index_status_panel() -> dict[str, Any]:
    """What the index holds, for the admin."""
    return {"status": index_status()}

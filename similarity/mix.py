"""The mix: how much each part of a look weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from django.utils.translation import gettext

Mix = Mapping[str, float]


class MixError(ValueError):
    """The mix makes no sense; the message says why, for whoever wrote it."""


def parse_mix(text: str) -> Mix:
    """`"style:1,colour:0.5"` → `{"style": 1.0, "colour": 0.5}`.

    Raises MixError for anything else. A weight may be negative (less like that), never infinite, and at
    least one must differ from zero.
    """
    mix: dict[str, float] = {}
    for item in text.split(","):
        name, colon, weight = (piece.strip() for piece in item.partition(":"))
        if not name or not colon:
            said = gettext("'%(item)s' in the mix is not 'part:weight', as in 'style:1,colour:0.5'.")
            raise MixError(said % {"item": item.strip()})
        if name in mix:
            raise MixError(gettext("The mix names '%(part)s' twice.") % {"part": name})
        try:
            mix[name] = float(weight)
        except ValueError:
            said = gettext("The weight of '%(part)s' in the mix is '%(weight)s', which is no number.")
            raise MixError(said % {"part": name, "weight": weight}) from None
    return check_mix(mix)


def check_mix(mix: Mix) -> Mix:
    """The mix itself, or MixError: weights must be finite, at most 1,000, and not all zero."""
    for name, weight in mix.items():
        if not math.isfinite(weight) or abs(weight) > 1000:
            said = gettext("The weight of '%(part)s' in the mix must lie between -1000 and 1000.")
            raise MixError(said % {"part": name})
    if not any(mix.values()):
        raise MixError(gettext("All weights of the mix are zero: nothing is left to compare."))
    return mix


def format_mix(mix: Mix) -> str:
    """The opposite of `parse_mix`."""
    return ",".join(f"{name}:{weight:g}" for name, weight in mix.items())

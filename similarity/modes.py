"""What the page offers instead of weights: three modes, and a slider between shape and colour. Pure.

These are the mixes that a build calibrates its cut-off for and measures its recall on (`similarity.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable

from similarity.mix import Mix
from similarity.refining import Refinement

SIMILAR, RECOLOURED, SAME_COLOUR = "similar", "recoloured", "same-colour"
BALANCES = (-2, -1, 0, 1, 2)
"""Places of the slider, from shape to colour; 0 is the default mix."""

_OF_SHAPE = {-2: 1.0, -1: 1.0, 0: 1.0, 1: 0.5, 2: 0.1}
_OF_COLOUR = {-2: 0.0, -1: 0.5, 0: 1.0, 1: 1.0, 2: 1.0}
_AGAINST_COLOUR = -0.4
_SHAPE_BESIDE_COLOUR = 0.25

REFINEMENTS = {
    SIMILAR: Refinement(),
    RECOLOURED: Refinement(differ=("colour",)),
    SAME_COLOUR: Refinement(same=("colour",)),
}
MODES = tuple(REFINEMENTS)


def balanced(default: Mix, balance: int) -> Mix:
    """The default mix moved towards shape (below 0) or colour (above). Raises KeyError for no place of the slider."""
    return _weighed(default, _OF_SHAPE[balance], _OF_COLOUR[balance])


def mix_of(default: Mix, mode: str, balance: int = 0) -> Mix:
    """The mix of a mode; the slider moves that of `similar`. Raises KeyError for an unknown mode."""
    mixes: dict[str, Callable[[], Mix]] = {
        SIMILAR: lambda: balanced(default, balance),
        RECOLOURED: lambda: _weighed(default, 1.0, _AGAINST_COLOUR),
        SAME_COLOUR: lambda: _weighed(default, _SHAPE_BESIDE_COLOUR, 1.0),
    }
    return mixes[mode]()


def grid(default: Mix) -> list[Mix]:
    """Every mix that the page offers, and each part alone; the default first."""
    offered = [mix_of(default, SIMILAR, balance) for balance in sorted(BALANCES, key=abs)]
    offered += [mix_of(default, mode) for mode in MODES]
    offered += [{name: float(name == alone) for name in default} for alone in default]
    return [mix for at, mix in enumerate(offered) if any(mix.values()) and mix not in offered[:at]]


def _weighed(default: Mix, shape: float, colour: float) -> Mix:
    return {name: weight * (colour if name == "colour" else shape) for name, weight in default.items()}

"""What a visitor may ask of the panel of similar items, by the page's address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django import forms
from django.utils.translation import gettext_lazy as _

from similarity import modes
from similarity.refining import CALIBRATED, Refinement
from similarity.services import COMPARED

if TYPE_CHECKING:
    from django.http import QueryDict

    from similarity.mix import Mix

PAGE_REFINEMENT = Refinement(collapse=True, diversity=0.15, min_score=CALIBRATED)
"""What pages do to every ranking."""

MODES = (
    (modes.SIMILAR, _("Similar")),
    (modes.RECOLOURED, _("Same style, other colours")),
    (modes.SAME_COLOUR, _("Same colour")),
)


class PanelForm(forms.Form):
    mode = forms.ChoiceField(choices=MODES, required=False)
    balance = forms.TypedChoiceField(choices=[(place, place) for place in modes.BALANCES], coerce=int, required=False)
    same = forms.MultipleChoiceField(choices=[(label, label) for label in COMPARED], required=False)


@dataclass(frozen=True)
class Panel:
    """What was asked for; whatever makes no sense is as if it were not there."""

    mode: str = modes.SIMILAR
    balance: int = 0
    same: tuple[str, ...] = ()

    @classmethod
    def asked(cls, query: QueryDict) -> Panel:
        if not query:  # as nearly everybody asks: no form is needed to know that
            return cls()
        form = PanelForm(query)
        form.is_valid()
        given = form.cleaned_data
        return cls(given.get("mode") or modes.SIMILAR, given.get("balance") or 0, tuple(given.get("same") or ()))

    def mix(self, default: Mix) -> Mix:
        return modes.mix_of(default, self.mode, self.balance)

    @property
    def refinement(self) -> Refinement:
        of_mode = modes.REFINEMENTS[self.mode]
        same = tuple(label for label in self.same if label not in of_mode.differ)
        return replace(PAGE_REFINEMENT, differ=of_mode.differ, same=tuple(dict.fromkeys((*of_mode.same, *same))))

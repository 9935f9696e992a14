"""Areas: regions of the catalogue that another app knows, for the address's `?area=`.

What an area is, the catalogue does not know: `settings.CATALOGUE_AREAS` names the function that does. So the grid, its
facets and the API narrow to a region of similarity's map, and nothing here imports similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.utils.module_loading import import_string

AREA_MAX_LENGTH = 1000


class UnknownArea(ValueError):
    """The text names no area. The message says why."""


@dataclass(frozen=True)
class Area:
    """`text`: as it stands in the address. `label`: what people call it. `rows`: `embedding_row` of what is in it.

    `url`: where it was drawn.
    """

    text: str
    label: str
    rows: Sequence[int]
    url: str = ""


def find_area(text: str) -> Area:
    """Raises UnknownArea."""
    if not settings.CATALOGUE_AREAS:
        raise UnknownArea("No areas are known here.")
    area: Area = import_string(settings.CATALOGUE_AREAS)(text)
    return area

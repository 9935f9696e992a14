"""A field for one row of a catalogue's file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    TextField = models.TextField[Any, Any]
else:  # generic for the type checker only
    TextField = models.TextField


def row_text(values: Mapping[str, str]) -> str:
    """A row as JSON, the names in alphabetical order and no white space: the same row is always the same text."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class RowWriter:
    """`row_text` for rows with the same columns, in a third of the time: an import asks it for every row."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: those of the columns, two at least, in the order in which rows have their values."""
        order = sorted(range(len(names)), key=names.__getitem__)
        places = [encode_basestring(names[at]).replace("%", "%%") + ":%s" for at in order]
        self._form = "{" + ",".join(places) + "}"
        self._in_order = itemgetter(*order)

    def __call__(self, values: Sequence[str]) -> str:
        return self._form % tuple(map(encode_basestring, self._in_order(values)))


class RowField(TextField):
    """Column → value as a dict for those who read it, as one canonical text in the database.

    An import compares texts and decodes a row only when it has changed. In a JSON column each database would
    check and keep it in its own way, and PostgreSQL's `jsonb` gives back another text than it was given.
    """

    def from_db_value(self, value: str, expression: object, connection: object) -> dict[str, str]:
        return self.to_python(value)

    def to_python(self, value: str | dict[str, str]) -> dict[str, str]:
        row: dict[str, str] = json.loads(value) if isinstance(value, str) else value
        return row

    def get_prep_value(self, value: str | Mapping[str, str]) -> str:
        return value if isinstance(value, str) else row_text(value)

    def value_to_string(self, obj: models.Model) -> str:
        return self.get_prep_value(self.value_from_object(obj))

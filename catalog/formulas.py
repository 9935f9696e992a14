"""Values that a spreadsheet would take for formulas: made text for it, and given back their form by an import.

A title `=HYPERLINK(…)` is text to a shop and a program to a spreadsheet (OWASP, "CSV Injection"). An apostrophe before
it is how spreadsheets themselves say that something is text. The same apostrophe is taken away again when a file is
imported, exactly one, so that a file which went through a spreadsheet changes nothing.

Not only the beginning of a value counts: a spreadsheet whose language separates values by semicolons, as Portuguese
does, begins a new cell behind every semicolon and line break, for it knows nothing of our quotes.
"""

from __future__ import annotations

import re

_SIGNS = r"[=+\-@＝＋－＠]"
_LEADING_SIGNS = r"[\t\r\n]"
"""These count at the beginning of a value only: elsewhere they are line ends as usual."""
_BREAK = r"(?<![^,;|\t\r\n])"
"""Where a cell may begin: at the start and after whatever separates cells somewhere."""
_SPACE = r"(?:[^\S\t\r\n]|[\u200b-\u200d\u2060\ufeff])*"


def _places(apostrophes: str) -> re.Pattern[str]:
    """Before so many apostrophes and then something dangerous. What is inserted there is no separator, so that the same
    places are found again."""
    return re.compile(f"{_BREAK}(?={apostrophes}{_SPACE}{_SIGNS})|^(?={apostrophes}{_SPACE}{_LEADING_SIGNS})")


_ANY_SIGN = re.compile(f"{_SIGNS}|{_LEADING_SIGNS}")
_RISKY = _places("'*")
_AMBIGUOUS = _places("'+")
_NEUTRAL = re.compile(f"{_BREAK}'(?='*{_SPACE}{_SIGNS})|^'(?='*{_SPACE}{_LEADING_SIGNS})")


def neutralised(value: str) -> str:
    """The value as spreadsheets show it and never run it."""
    return _RISKY.sub("'", value) if _ANY_SIGN.search(value) else value


def kept(value: str) -> str:
    """The value as files for programs have it: as it is, unless an import would take an apostrophe of its own away."""
    return _AMBIGUOUS.sub("'", value) if "'" in value else value


def restored(value: str) -> str:
    """What `neutralised` and `kept` were given."""
    return _NEUTRAL.sub("", value) if "'" in value else value

"""Search in words on SQLite: an FTS5 table over titles and attributes (https://www.sqlite.org/fts5.html).

The table keeps no text of its own (external content) and is kept by triggers, which bulk writes and other programs
fire too. It is made by migration 0003. A migration that lets Django remake the table of products drops its triggers
with it, and has to run `CREATE` again; a test looks for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from django.db import connection

from catalog.columns import ATTRIBUTES

TABLE, VOCABULARY = "catalog_product_words", "catalog_product_vocabulary"
MATCHING = f"SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH %s"  # noqa: S608 - a constant
FIRST_MATCHING = f"{MATCHING} ORDER BY rowid LIMIT %s"
MATCHING_LISTED = f"SELECT group_concat(rowid) FROM {TABLE} WHERE {TABLE} MATCH %s"  # noqa: S608 - a constant
"""The same as one string, "1,5,7"."""
MOST_WORDS = 20
MOST_CORRECTED = 5
_NEIGHBOURS = 5000
"""Words of the vocabulary that one misspelt word is held against, at most."""

_COLUMNS = ("title", *ATTRIBUTES)
_NAMES = ", ".join(_COLUMNS)
_OLD, _NEW = (", ".join(f"{row}.{name}" for name in ("id", *_COLUMNS)) for row in ("old", "new"))
_FORGET = f"INSERT INTO {TABLE} ({TABLE}, rowid, {_NAMES}) VALUES ('delete', {_OLD});"  # noqa: S608
_LEARN = f"INSERT INTO {TABLE} (rowid, {_NAMES}) VALUES ({_NEW});"  # noqa: S608
_CHANGED = " OR ".join(f"old.{name} IS NOT new.{name}" for name in ("id", *_COLUMNS))

CREATE = [
    # Without the sizes of columns, which are for ranking: results come in the catalogue's order. With an index of first
    # letters, which half of all words may share: at a million products 0.5 instead of 115 ms for the first hits of one.
    # Longer ones would gain less, and cost as much in importing.
    f"CREATE VIRTUAL TABLE IF NOT EXISTS {TABLE} USING fts5 ({_NAMES}, content='catalog_product', content_rowid='id',"
    " tokenize='unicode61 remove_diacritics 2', columnsize=0, prefix='1 2')",
    f"CREATE VIRTUAL TABLE IF NOT EXISTS {VOCABULARY} USING fts5vocab ({TABLE}, 'row')",
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_insert AFTER INSERT ON catalog_product BEGIN {_LEARN} END",
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_delete AFTER DELETE ON catalog_product BEGIN {_FORGET} END",
    # Most updates change a picture or a date and no word.
    f"CREATE TRIGGER IF NOT EXISTS {TABLE}_update AFTER UPDATE OF id, {_NAMES} ON catalog_product"
    f" WHEN {_CHANGED} BEGIN {_FORGET} {_LEARN} END",
    f"INSERT INTO {TABLE} ({TABLE}) VALUES ('rebuild')",  # noqa: S608
]
DROP = [
    *(f"DROP TRIGGER IF EXISTS {TABLE}_{event}" for event in ("insert", "delete", "update")),
    f"DROP TABLE IF EXISTS {VOCABULARY}",
    f"DROP TABLE IF EXISTS {TABLE}",
]


def split(text: str) -> list[str]:
    """The words that a search is for: what is between white space and has a letter or a digit."""
    return [word for word in text.replace("\0", " ").split() if any(map(str.isalnum, word))][:MOST_WORDS]


def plain(word: str) -> str:
    """A word without its punctuation: "t-shirt" is written "tshirt" too."""
    return "".join(filter(str.isalnum, word))


def match_expression(words: Sequence[str]) -> str:
    """What FTS5 is asked: each word, as it is or without its punctuation, begins some word of the product.

    Within double quotes nothing is an operator (https://www.sqlite.org/fts5.html#fts5_strings).
    """
    return " AND ".join(
        "(" + " OR ".join(f'"{form}"*' for form in {word.replace('"', " "): 0, plain(word): 0}) + ")" for word in words
    )


def nearest(word: str) -> str | None:
    """The word of the catalogue that is most like one that begins none of them; None where it begins one, or where
    nothing is near. On databases without FTS5 there is no vocabulary, and nothing is near."""
    word = plain(word).lower()
    if not word or connection.vendor != "sqlite":
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT term, doc FROM {VOCABULARY} WHERE term >= %s AND term < %s LIMIT %s",  # noqa: S608 - a constant
            [word[0], word[0] + chr(0x10FFFF), _NEIGHBOURS],
        )
        vocabulary: dict[str, int] = dict(cursor.fetchall())
    if any(term.startswith(word) for term in vocabulary):
        return None
    near = [term for term in vocabulary if abs(len(term) - len(word)) <= 2]
    likeness = difflib.SequenceMatcher(b=word)

    def rank(term: str) -> tuple[float, int]:
        likeness.set_seq1(term)
        return likeness.ratio(), vocabulary[term]  # of equally near ones, the commonest

    return max(difflib.get_close_matches(word, near, n=5, cutoff=0.7), key=rank, default=None)


def corrected(text: str) -> str | None:
    """The text with the catalogue's nearest words in place of the first that it lacks; None where there are none."""
    found = {word: near for word in split(text)[:MOST_CORRECTED] if (near := nearest(word))}
    return " ".join(found.get(word, word) for word in split(text)) if found else None

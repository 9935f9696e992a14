"""Search in words over titles and attributes: an index that the database itself keeps, bulk writes included.

- SQLite: an FTS5 table (https://www.sqlite.org/fts5.html) that keeps no text of its own (external content), kept by
  triggers. A migration that lets Django remake the table of products drops them with it, and has to run `CREATE`
  again; a test looks for them.
- PostgreSQL: an index (GIN) over a function of the row, which folds as FTS5's tokenizer does: letters and digits,
  without case and diacritics.

Both are made by migrations 0003, 0006 and 0007.
"""

from __future__ import annotations

import difflib
import re
import threading
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from catalog import changes, reading
from catalog.columns import ATTRIBUTES

TABLE, VOCABULARY = "catalog_product_words", "catalog_product_vocabulary"
MOST_WORDS = 20
MOST_CORRECTED = 5
_NEIGHBOURS = 5000
"""Words of the vocabulary that one misspelt word is held against, at most."""
_SAMPLED_BYTES = 8 * 2**20
"""Of the table of products, some 20,000 of them, whose words are the vocabulary on PostgreSQL, which keeps none. They
are taken from everywhere: the whole of a large catalogue would take minutes."""

_COLUMNS = ("title", *ATTRIBUTES)
_NAMES = ", ".join(_COLUMNS)


def _sqlite() -> tuple[list[str], list[str]]:
    old, new = (", ".join(f"{row}.{name}" for name in ("id", *_COLUMNS)) for row in ("old", "new"))
    forget = f"INSERT INTO {TABLE} ({TABLE}, rowid, {_NAMES}) VALUES ('delete', {old});"  # noqa: S608
    learn = f"INSERT INTO {TABLE} (rowid, {_NAMES}) VALUES ({new});"  # noqa: S608
    changed = " OR ".join(f"old.{name} IS NOT new.{name}" for name in ("id", *_COLUMNS))
    create = [
        # Without the sizes of columns, which are for ranking: results come in the catalogue's order. With an index of
        # first letters, which half of all words may share: at a million products 0.5 instead of 115 ms for the first
        # hits of one. Longer ones would gain less, and cost as much in importing.
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {TABLE} USING fts5 ({_NAMES}, content='catalog_product',"
        " content_rowid='id', tokenize='unicode61 remove_diacritics 2', columnsize=0, prefix='1 2')",
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {VOCABULARY} USING fts5vocab ({TABLE}, 'row')",
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_insert AFTER INSERT ON catalog_product BEGIN {learn} END",
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_delete AFTER DELETE ON catalog_product BEGIN {forget} END",
        # Most updates change a picture or a date and no word.
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_update AFTER UPDATE OF id, {_NAMES} ON catalog_product"
        f" WHEN {changed} BEGIN {forget} {learn} END",
        f"INSERT INTO {TABLE} ({TABLE}) VALUES ('rebuild')",  # noqa: S608
    ]
    drop = [
        *(f"DROP TRIGGER IF EXISTS {TABLE}_{event}" for event in ("insert", "delete", "update")),
        f"DROP TABLE IF EXISTS {VOCABULARY}",
        f"DROP TABLE IF EXISTS {TABLE}",
    ]
    return create, drop


_VECTOR = f"{TABLE}({_NAMES})"


def _postgresql() -> tuple[list[str], list[str]]:
    arguments = ", ".join(["text"] * len(_COLUMNS))
    together = " || ' ' || ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
    # Decomposed, so that diacritics are characters of their own, which go; what is no letter and no digit parts words.
    folded = rf"regexp_replace(lower(normalize({together}, NFKD)), '[\u0300-\u036f]', '', 'g')"
    apart = r"[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7]"
    apart = rf"({apart}|[\u2000-\u206f])+"
    create = [
        f"CREATE OR REPLACE FUNCTION {TABLE}({arguments}) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE"
        f" AS $$ SELECT to_tsvector('simple'::regconfig, regexp_replace({folded}, '{apart}', ' ', 'g')) $$",
        f"CREATE INDEX IF NOT EXISTS {TABLE}_index ON catalog_product USING gin ({_VECTOR})",
    ]
    drop = [f"DROP INDEX IF EXISTS {TABLE}_index", f"DROP FUNCTION IF EXISTS {TABLE}({arguments})"]
    return create, drop


CREATE, DROP = {}, {}
for _vendor, _statements in (("sqlite", _sqlite()), ("postgresql", _postgresql())):
    CREATE[_vendor], DROP[_vendor] = _statements

MATCHING = {
    "sqlite": f"SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH %s",  # noqa: S608 - constants, here and below
    "postgresql": f"SELECT id FROM catalog_product WHERE {_VECTOR} @@ to_tsquery('simple', %s)",  # noqa: S608
}
"""The primary keys of the products that an expression matches."""
FIRST_MATCHING = {
    "sqlite": f"{MATCHING['sqlite']} ORDER BY rowid LIMIT %s",
    "postgresql": f"{MATCHING['postgresql']} ORDER BY id LIMIT %s",
}
MATCHING_LISTED = {
    "sqlite": f"SELECT group_concat(rowid) FROM ({MATCHING['sqlite']})",  # noqa: S608
    "postgresql": f"SELECT string_agg(id::text, ',') FROM ({MATCHING['postgresql']}) AS found",  # noqa: S608
}
"""The same as one string, "1,5,7"."""


def is_indexed() -> bool:
    """Whether this database keeps an index of words."""
    return reading.connection().vendor in CREATE


def split(text: str) -> list[str]:
    """The words that a search is for: what is between white space and has a letter or a digit."""
    return [word for word in text.replace("\0", " ").split() if any(map(str.isalnum, word))][:MOST_WORDS]


def plain(word: str) -> str:
    """A word without its punctuation: "t-shirt" is written "tshirt" too."""
    return "".join(filter(str.isalnum, word))


def match_expression(words: Sequence[str]) -> str:
    """What the index is asked: each word, as it is or without its punctuation, begins some word of the product."""
    forms = [{word.replace('"', " "): 0, plain(word): 0} for word in words]
    if reading.connection().vendor == "sqlite":
        # Within double quotes nothing is an operator (https://www.sqlite.org/fts5.html#fts5_strings).
        return " AND ".join("(" + " OR ".join(f'"{form}"*' for form in each) + ")" for each in forms)
    return " & ".join("(" + " | ".join(filter(None, map(_following, each))) + ")" for each in forms)


def _following(form: str) -> str:
    """For PostgreSQL: "t-shirt" is "t", and right after it what begins with "shirt"."""
    pieces = re.findall(r"[^\W_]+", folded(form))
    return " <-> ".join([*(f"'{piece}'" for piece in pieces[:-1]), f"'{pieces[-1]}':*"]) if pieces else ""


def folded(text: str) -> str:
    """Without case and diacritics, as the search compares."""
    if text.isascii():  # almost every word is, and this is ten times as fast
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()


def nearest(word: str) -> str | None:
    """The word of the catalogue that is most like one that begins none of them; None where it begins one, or where
    nothing is near. On databases without an index there is no vocabulary, and nothing is near."""
    word = plain(word).lower()
    if not word or not is_indexed():
        return None
    vocabulary = _vocabulary(word[0])
    if any(term.startswith(word) for term in vocabulary) or _is_rare(word):
        return None
    near = [term for term in vocabulary if abs(len(term) - len(word)) <= 2]
    likeness = difflib.SequenceMatcher(b=word)

    def rank(term: str) -> tuple[float, int]:
        likeness.set_seq1(term)
        return likeness.ratio(), vocabulary[term]  # of equally near ones, the commonest

    return max(difflib.get_close_matches(word, near, n=5, cutoff=0.7), key=rank, default=None)


def _vocabulary(letter: str) -> Mapping[str, int]:
    """Words that begin so, and in how many products they are; on PostgreSQL, of those that were looked at."""
    if reading.connection().vendor == "postgresql":
        return _sampled().get(letter, {})
    with reading.connection().cursor() as cursor:
        cursor.execute(
            f"SELECT term, doc FROM {VOCABULARY} WHERE term >= %s AND term < %s LIMIT %s",  # noqa: S608
            [letter, letter + chr(0x10FFFF), _NEIGHBOURS],
        )
        return dict(cursor.fetchall())


@dataclass
class _Sample:
    """The words of some products, by first letter, of the catalogue as it was at `state`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    state: Hashable = None
    words: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


_samples: dict[str, _Sample] = {}
"""By database, as `columnar` has its columns."""


def _sampled() -> Mapping[str, Mapping[str, int]]:
    """Read once for each state of the catalogue, whoever asks however often: it takes the database up to a second."""
    sample = _samples.setdefault(reading.database(), _Sample())
    seen = changes.newest()
    state = (seen.version, seen.token, seen.ahead)
    with sample.lock:
        if sample.state != state:
            sample.words, sample.state = _read_sample(), state
        return sample.words


def _read_sample() -> Mapping[str, Mapping[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with reading.connection().cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('catalog_product')")
        share = min(100.0, 100.0 * _SAMPLED_BYTES / max(1, cursor.fetchone()[0]))
        some = f"SELECT {_VECTOR} FROM catalog_product TABLESAMPLE SYSTEM ({share}) REPEATABLE (0)"  # noqa: S608
        cursor.execute("SELECT word, ndoc FROM ts_stat(%s) WHERE word <> '' ORDER BY ndoc DESC", [some])
        for word, products in cursor:
            if len(of_letter := found.setdefault(word[0], {})) < _NEIGHBOURS:
                of_letter[word] = products
    return found


def _is_rare(word: str) -> bool:
    """Whether it begins a word of a product that was not looked at."""
    if reading.connection().vendor != "postgresql":
        return False
    with reading.connection().cursor() as cursor:
        # Counted: for any one of them, PostgreSQL would go through the table instead of the index.
        cursor.execute(f"SELECT count(*) FROM ({MATCHING['postgresql']}) AS found", [match_expression([word])])  # noqa: S608
        return bool(cursor.fetchone()[0])


def corrected(text: str) -> str | None:
    """The text with the catalogue's nearest words in place of the first that it lacks; None where there are none."""
    found = {word: near for word in split(text)[:MOST_CORRECTED] if (near := nearest(word))}
    return " ".join(found.get(word, word) for word in split(text)) if found else None

#!/usr/bin/env python
"""How long a catalogue's CSV takes to become products, beside SQLite's own `executemany` of the same rows.

    python bench/import_csv.py [--rows 1000000] [--rounds 3] [--json]

Everything happens in a folder of its own. Each step runs in a fresh process, so that its peak memory is its own, and
its time starts when the interpreter is up. Rounds of all steps follow one another; seconds are medians, and so are
the ratios of each round:

- raw: `sqlite3.executemany` of the file's ten columns, in one transaction and the same in transactions of 10,000 rows,
  into a database with the very tables and indexes that `migrate` makes, the same journal and the same page cache.
  Only SQLite's part is timed, not the reading of the file. The faster of the two is what the import is held against.
- import: `import_catalogue` of the file into the fresh catalogue: check the whole file, then write it.
- wordless: the same into a catalogue without the index for words, which triggers keep.
- reimport: the same file again, and changed: a file in which one row in a hundred has another title and colour.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

GENDERS = ["Men", "Women", "Unisex", "Boys", "Girls"]
BRANDS = ["Nike", "Puma", "Fabindia", "Catwalk", "Gini and Jony", "United Colors of Benetton", "Wrangler", "Titan"]
COLOURS = [
    "Black", "White", "Blue", "Brown", "Grey", "Red", "Green", "Pink", "Navy Blue", "Purple", "Silver", "Yellow",
    "Beige", "Gold", "Maroon", "Orange", "Olive", "Multi", "Cream", "Steel", "Charcoal", "Peach", "Off White",
    "Lavender", "Khaki", "Magenta", "Teal", "Tan", "Bronze", "Copper", "Turquoise Blue", "Rust", "Mauve",
]  # fmt: skip
USAGES = ["Casual", "Sports", "Ethnic", "Formal", "Smart Casual", "Party", "Travel", ""]
TYPES = {
    ("Apparel", "Topwear"): ["Tshirts", "Shirts", "Kurtas", "Tops", "Sweatshirts", "Jackets", "Tunics", "Waistcoat"],
    ("Apparel", "Bottomwear"): ["Jeans", "Track Pants", "Shorts", "Trousers", "Capris", "Leggings", "Skirts"],
    ("Apparel", "Innerwear"): ["Briefs", "Bra", "Trunk", "Innerwear Vests", "Camisoles", "Boxers"],
    ("Apparel", "Dress"): ["Dresses", "Jumpsuit", "Sarees"],
    ("Footwear", "Shoes"): ["Casual Shoes", "Sports Shoes", "Formal Shoes", "Heels", "Flats"],
    ("Footwear", "Sandal"): ["Sandals", "Sports Sandals"],
    ("Footwear", "Flip Flops"): ["Flip Flops"],
    ("Accessories", "Bags"): ["Handbags", "Backpacks", "Clutches", "Laptop Bag", "Duffel Bag", "Messenger Bag"],
    ("Accessories", "Jewellery"): ["Earrings", "Pendant", "Necklace and Chains", "Ring", "Bracelet", "Bangle"],
    ("Accessories", "Watches"): ["Watches"],
    ("Accessories", "Belts"): ["Belts"],
    ("Personal Care", "Fragrance"): ["Perfume and Body Mist", "Deodorant"],
    ("Personal Care", "Lips"): ["Lipstick", "Lip Gloss", "Lip Liner"],
}
ID_PRIME, ID_STEP = 15_485_863, 6_700_417
"""`row * step % prime` visits every number once: ids that are distinct and come in no order, as in real files."""
BATCH_ROWS = 10_000
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-65536", "wal_autocheckpoint=8000")
"""Both as an import has them (`catalog.importing.upsert` and `.statements`, `config.settings`)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help=f"rows of the file, fewer than {ID_PRIME:,}")
    parser.add_argument("--rounds", type=int, default=3, help="all steps in turn, so many times")
    parser.add_argument("--json", action="store_true", help="the default; for scripts that say so")
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:  # one step, in the process that was started for it
        print(json.dumps(STEPS[arguments.step](Path(os.environ["VITRINE_DATA_DIR"]))))
        return
    if not 1 <= arguments.rows < ID_PRIME:
        parser.error(f"--rows is between 1 and {ID_PRIME - 1:,}")
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
        print(json.dumps(bench(Path(folder), arguments.rows, arguments.rounds), indent=2))


def bench(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    write_catalogue(folder / "catalogue.csv", rows)
    write_catalogue(folder / "changed.csv", rows, changed=True)
    changed = -(-rows // 100)
    found: list[dict[str, dict[str, Any]]] = []
    for _ in range(rounds):
        for database in folder.glob("*.sqlite3*"):
            database.unlink()
        wordless = folder / "wordless"
        shutil.rmtree(wordless, ignore_errors=True)
        wordless.mkdir()
        for place in (folder, wordless):
            migrate(place)
        steps = {name: run_step(wordless if name == "wordless" else folder, name) for name in STEPS}
        check(steps["wordless"], created=rows, updated=0, unchanged=0)
        check(steps["import"], created=rows, updated=0, unchanged=0)
        check(steps["reimport"], created=0, updated=0, unchanged=rows)
        check(steps["changed"], created=0, updated=changed, unchanged=rows - changed)
        found.append(steps)

    def median(of: Callable[[dict[str, float]], float]) -> float:
        return round(statistics.median(of({name: s["seconds"] for name, s in steps.items()}) for steps in found), 2)

    return {
        "rows": rows,
        "rounds": rounds,
        "csv_mib": mib(folder / "catalogue.csv"),
        "raw_s": median(fastest_raw),
        "raw_one_transaction_s": median(itemgetter("raw")),
        "raw_batched_s": median(itemgetter("raw_batched")),
        "import_s": median(itemgetter("import")),
        "ratio": median(lambda s: s["import"] / fastest_raw(s)),
        "words_ratio": median(lambda s: s["import"] / s["wordless"]),
        "reimport_s": median(itemgetter("reimport")),
        "reimport_speedup": median(lambda s: s["import"] / s["reimport"]),
        "changed_s": median(itemgetter("changed")),
        "cpu_s": {name: round(statistics.median(steps[name]["cpu_s"] for steps in found), 2) for name in STEPS},
        "peak_mib": {name: max(steps[name]["peak_mib"] for steps in found) for name in STEPS},
        "sqlite_mib": {name: found[0][name]["sqlite_mib"] for name in ("raw", "import")},
    }


def fastest_raw(seconds: dict[str, float]) -> float:
    return min(seconds["raw"], seconds["raw_batched"])


def check(step: dict[str, Any], **expected: int) -> None:
    if step["counts"] != expected:
        sys.exit(f"the import counted {step['counts']}, expected {expected}")


def run_step(folder: Path, name: str) -> dict[str, Any]:
    """A step in a process of its own."""
    command = [sys.executable, __file__, "--step", name]
    done = subprocess.run(command, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    print(f"{name}: {result['seconds']:.2f} s, {result['peak_mib']} MiB", file=sys.stderr, flush=True)
    return result


# --- the file -----------------------------------------------------------------------------------


def write_catalogue(path: Path, rows: int, *, changed: bool = False) -> None:
    """A file of fashion. With `changed`, every hundredth row has another title and colour than without."""
    from catalog.columns import FIELD_OF

    choose = random.Random(0)
    kinds = [(*kind, name) for kind, names in TYPES.items() for name in names]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELD_OF)
        for row in range(rows):
            category, sub_category, product_type = choose.choice(kinds)
            gender, colour, brand = choose.choice(GENDERS), choose.choice(COLOURS), choose.choice(BRANDS)
            usage, picture = choose.choice(USAGES), choose.getrandbits(128)
            product_id = row * ID_STEP % ID_PRIME
            title = f"{brand} {gender} {colour} {product_type}"
            if changed and row % 100 == 0:
                colour, title = "Sea Green", f"{title}, new season"
            url = f"http://assets.example/v1/images/style/properties/{picture:032x}_images.jpg"
            attributes = (gender, category, sub_category, product_type, colour, usage)
            writer.writerow((product_id, *attributes, title, f"{product_id}.jpg", url))


def records(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader


# --- the steps ----------------------------------------------------------------------------------


def raw(folder: Path, *, batched: bool) -> dict[str, Any]:
    """The rows by `sqlite3.executemany`: in one transaction, or in one for every batch."""
    path = folder / ("raw-batched.sqlite3" if batched else "raw.sqlite3")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for pragma in PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        copy_schema(folder, database)
        statement = raw_insert(database)
        rows = records(folder / "catalogue.csv")
        database.execute("BEGIN IMMEDIATE")
        seconds = 0.0
        while some := list(islice(rows, BATCH_ROWS)):
            seconds += timed(partial(database.executemany, statement, some))
            if batched:
                seconds += timed(database.commit)
                database.execute("BEGIN IMMEDIATE")
        seconds += timed(database.commit)
    return measured(seconds, path)


def copy_schema(folder: Path, database: sqlite3.Connection) -> None:
    """The product's table and indexes, as `migrate` makes them, in another database."""
    with closing(sqlite3.connect(folder / "vitrine.sqlite3")) as migrated:
        made = migrated.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'catalog_product'"
            " AND type IN ('table', 'index') AND sql IS NOT NULL ORDER BY rowid"
        )
        for (statement,) in made:
            database.execute(statement)


def raw_insert(database: sqlite3.Connection) -> str:
    """The statement for a row of the file; columns that it lacks and that must not be NULL get a constant."""
    from catalog.columns import FIELD_OF

    columns = list(FIELD_OF.values())
    constants = {
        name: "'{}'" if name in ("extra", "source") else "0" if "int" in kind or kind == "bool" else "''"
        for _, name, kind, needed, _, key in database.execute("PRAGMA table_info(catalog_product)")
        if needed and not key and name not in columns
    }
    marks = ", ".join(["?"] * len(columns) + list(constants.values()))
    return f"INSERT INTO catalog_product ({', '.join([*columns, *constants])}) VALUES ({marks})"  # noqa: S608


def ours(folder: Path, file: str, *, words: bool = True) -> dict[str, Any]:
    """The product's own import; without `words`, of a file in the folder above, without the index for them."""
    import django

    django.setup()
    from django.conf import settings
    from django.db import connection

    from catalog.importing.service import ImportOptions, import_catalogue

    database = Path(settings.DATABASES["default"]["NAME"])
    if database.parent != folder:
        sys.exit(f"{database} is not in {folder}")
    if not words:
        from catalog.words import DROP

        with connection.cursor() as cursor:
            for statement in DROP["sqlite"]:
                cursor.execute(statement)
    started = time.perf_counter()
    report = import_catalogue(ImportOptions((folder if words else folder.parent) / file))
    connection.close()  # SQLite writes the log's pages back into the file
    seconds = time.perf_counter() - started
    counts = {"created": report.created, "updated": report.updated, "unchanged": report.unchanged}
    return {**measured(seconds, database), "counts": counts}


def migrate(folder: Path) -> None:
    """The empty catalogue that every step begins with."""
    command = [sys.executable, str(ROOT / "manage.py"), "migrate", "-v0"]
    subprocess.run(command, env=environment(folder), check=True)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measured(seconds: float, database: Path) -> dict[str, Any]:
    """Time, the whole process's processor time and peak memory, which Linux counts in KiB and macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime
    peak = used.ru_maxrss * unit
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mib": round(peak / 2**20), "sqlite_mib": mib(database)}


def environment(folder: Path) -> dict[str, str]:
    """Data and database in our folder, whatever the user's environment or .env says."""
    return {
        **os.environ,
        "VITRINE_DATA_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / 'vitrine.sqlite3'}",
    }


def mib(path: Path) -> int:
    return round(path.stat().st_size / 2**20)


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "raw": partial(raw, batched=False),
    "raw_batched": partial(raw, batched=True),
    "wordless": partial(ours, file="catalogue.csv", words=False),
    "import": partial(ours, file="catalogue.csv"),
    "reimport": partial(ours, file="catalogue.csv"),
    "changed": partial(ours, file="changed.csv"),
}

if __name__ == "__main__":
    main()

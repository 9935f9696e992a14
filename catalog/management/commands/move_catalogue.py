"""`manage.py move_catalogue`: from SQLite to PostgreSQL."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

import dj_database_url
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from tqdm import tqdm

from catalog.moving import MoveError, move_catalogue


class Command(BaseCommand):
    help = (
        "Copies every row of another database, as sqlite:////srv/vitrine/vitrine.sqlite3, into the empty PostgreSQL "
        "that DATABASE_URL names, with the keys that they have: pictures, embeddings and indexes fit as they are. All "
        "rows arrive, or none. Let nobody change the catalogue meanwhile; visitors may go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="source", required=True, metavar="URL", help="The database to copy.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            source = dj_database_url.parse(options["source"])
        except (ValueError, KeyError) as error:
            raise CommandError(f"--from {options['source']} is no address of a database: {error}") from error
        with tqdm(unit=" rows", desc="Moving", disable=None, delay=1) as bar:

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                moved = move_catalogue(dict(source), advance)
            except MoveError as error:
                raise CommandError(str(error)) from error
            except DatabaseError as error:
                raise CommandError(f"Nothing was moved: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(moved.to_json()))
            return
        products = moved.rows.get("catalog_product", 0)
        self.stdout.write(f"Moved {moved.total} rows, {products} of them products, in {moved.seconds:.1f} s.")

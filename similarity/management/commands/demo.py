"""`manage.py demo`: from nothing to a catalogue in the browser. `make demo` calls it."""

from __future__ import annotations

import csv
import os
import secrets
import socket
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from similarity import products
from similarity.building import chosen_model
from similarity.management.arguments import whole_number
from similarity.products import Product

DEMO_CATALOGUE = Path(settings.BASE_DIR) / "fixtures" / "demo"
DEMO_MODEL = "efficientnet-lite0"
HOST = "127.0.0.1"


class Command(BaseCommand):
    help = "Migrates, imports a catalogue (the demo's own, or --csv), builds its index and map, and serves it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--csv", type=Path, help="Your catalogue; the demo's own products make room for it.")
        parser.add_argument("--images", type=Path, help="The folder with its pictures.")
        parser.add_argument("--model", help=f"As for build_index; {DEMO_MODEL} unless told otherwise before.")
        parser.add_argument("--port", type=whole_number(1, 65535), default=8000)
        parser.add_argument("--no-serve", action="store_true", help="Stop when everything is ready to be served.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["images"] and not options["csv"]:
            raise CommandError("IMAGES= is the folder of the pictures of your own catalogue: name its file too, CSV=…")
        if not options["no_serve"]:
            _refuse_busy_port(options["port"])
        call_command("migrate", verbosity=0)
        self._import(options["csv"], options["images"])
        call_command("build_index", model=options["model"] or chosen_model(DEMO_MODEL), stdout=self.stdout)
        try:
            call_command("build_map", stdout=self.stdout)
        except CommandError as error:  # a catalogue without pictures, say: the site is whole without a map
            self.stdout.write(f"No map was drawn. {error}")
        self._make_admin()
        if not options["no_serve"]:
            Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where there is none
            self._serve(options["port"])

    def _import(self, catalogue: Path | None, images: Path | None) -> None:
        if catalogue is None and products.any_besides(_demo_products()):
            self.stdout.write("The catalogue holds products of your own: serving those (CSV=… imports again).")
            return
        folder = images if catalogue else DEMO_CATALOGUE / "images"
        file = catalogue or DEMO_CATALOGUE / "fashion.csv"
        pictures = ["--images", str(folder)] if folder else []
        # Seen before the import, and never one that your file names: a file made from the demo's own stays whole.
        demo = list(_demo_products().values_list("pk", flat=True)) if catalogue else []
        call_command("import_fashion", str(file), *pictures, stdout=self.stdout)
        if demo:
            removed = products.remove(demo, but=set(_rows(file)))
            if removed:
                self.stdout.write(f"The {removed} products of the demo have made room for yours.")

    def _make_admin(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        users.create_superuser("admin", password=password)
        self.stdout.write(f"\nAdmin user: admin   password: {password}   (shown this once)")

    def _serve(self, port: int) -> None:
        self.stdout.write(
            f"\nVitrine is at http://{HOST}:{port}   (admin: /admin/, API: /api/docs/; Ctrl-C stops it)\n"
        )
        self.stdout.flush()
        os.chdir(settings.BASE_DIR)
        # It ends with this process, which becomes the server.
        worker = ["manage.py", "worker", "--until-parent-ends", "--verbosity=0"]
        subprocess.Popen([sys.executable, *worker])  # noqa: S603 (nothing of it comes from outside)
        arguments = ["config.wsgi", f"--bind={HOST}:{port}", "--workers=2", "--threads=4", "--log-level=warning"]
        os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])  # noqa: S606 (no shell is wanted)


def _demo_products() -> QuerySet[Product]:
    """The products that are still as the demo's file has them; one of yours with such an id is not among them."""
    return products.copies_of(_rows(DEMO_CATALOGUE / "fashion.csv"))


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a catalogue that can be imported, by product id."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {(row["ProductId"] or "").strip(): row for row in csv.DictReader(file)}


def _refuse_busy_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"Port {port} of {HOST} cannot be used ({error.strerror}); choose another: make demo PORT={port + 1}"
            ) from error

"""What takes long to make and is the same for every test: made once in a run, by whichever process needs it first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from tests.processes import run_python, serving


def folder() -> Path:
    return Path(os.environ["VITRINE_TESTS_SHARED"])


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder with what `make` puts there; nobody may write to it afterwards."""
    wanted = folder() / name
    with FileLock(folder() / f"{name}.lock"):
        if not wanted.is_dir():
            aside = folder() / f"{name}.part"
            aside.mkdir()
            make(aside)
            aside.rename(wanted)
    return wanted


def demo() -> Path:
    """The data folder of a shop that has the demo's products, embedded for real. SQLite only."""
    return made_once("demo", stock_demo)


def stock_demo(data_dir: Path) -> None:
    from tests.conftest import DEMO_CATALOGUE

    own = serving(data_dir, VITRINE_MODEL="efficientnet-lite0")
    images = str(DEMO_CATALOGUE / "images")
    run_python("manage.py", "migrate", "-v0", env=own)
    run_python("manage.py", "import_fashion", str(DEMO_CATALOGUE / "fashion.csv"), "--images", images, env=own)
    run_python("manage.py", "build_index", env=own)

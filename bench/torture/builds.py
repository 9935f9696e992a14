"""Builds that were tampered with: a byte flipped, a file cut, swapped, mixed with another build's. What answers is
always a build whose every file is as it was published, and the trouble is named.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.site import ROOT
from bench.torture.ground import Report, Shop

CHUNK = 500
"""Corruptions that one process tries: if one kills it, that is seen, and the others go on."""
ASKED = 5


def run(count: int, seed: int, folder: Path) -> Report:
    report = Report("builds", seed)
    shop = Shop(folder)
    shop.stock()
    shop.python("from catalog.models import Product; Product.objects.filter(pk__lte=3).update(product_type='Hats')")
    shop.environment["VITRINE_INDEX"] = "HNSW8,Flat"  # both kinds of index: the former build is exact
    shop.manage("build_index", "--no-report")
    shutil.copytree(folder / "builds", folder / "pristine")
    seen: Counter[str] = Counter()
    for start in range(0, count, CHUNK):
        work = [str(start), str(min(CHUNK, count - start)), str(seed)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.torture.builds", *work],
            cwd=ROOT,
            env=shop.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            report.failures.append(f"from {start} on, the process ended with {done.returncode}: {done.stderr[-2000:]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        report.tried += found["tried"]
        report.failures += found["failures"]
        seen.update(found["answered_by"])
    report.figures = {"undetected": len(report.failures), "answered_by": dict(seen)}
    return report


# --- the process that tries ------------------------------------------------------------------------
def attempt(start: int, count: int, seed: int) -> dict[str, Any]:
    import logging

    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    from django.conf import settings

    from similarity import serving
    from similarity.builds import BuildError, builds_dir, publications

    builds = builds_dir()
    pristine = Path(settings.DATA_DIR) / "pristine"
    current, former = (each.build_id for each in publications()[:2])
    truth = {build_id: answers_of(build_id) for build_id in (current, former)}
    result: dict[str, Any] = {"tried": 0, "failures": [], "answered_by": Counter()}
    for number in range(start, start + count):
        chance = random.Random(f"{seed} {number}")
        hurt = chance.choice(HURTS)
        note_of_the_past(chance)
        what = hurt(builds, current, former, chance)
        serving.reset_index()
        try:
            live = serving.get_index()
            answered_by, found = live.build.manifest.id, answers(live.build)
            # A stored build may be damaged and another one answer; the one that answers may not.
            if found != truth[answered_by] or not same_files(builds / answered_by, pristine / answered_by):
                result["failures"].append(f"#{number} {what}: answered from {answered_by}, which is not whole")
            elif answered_by == former and serving.serving_error() is None:
                result["failures"].append(f"#{number} {what}: the former build answers and nobody is told")
            name = "current" if answered_by == current else "former"
            del live
        except BuildError:
            name = "nobody"
            if same_files(builds / former, pristine / former) and "CURRENT" not in what:
                result["failures"].append(f"#{number} {what}: the former build is whole and does not answer")
        result["answered_by"][f"{name}, {what.split(':')[0]}"] += 1
        result["tried"] += 1
        serving.reset_index()
        gc.collect()  # nothing may be mapped while files are put back
        mend(builds, pristine)
    return result


def answers_of(build_id: str) -> list[list[int]]:
    from similarity.builds import open_build, read_manifest

    return answers(open_build(read_manifest(build_id)))


def answers(build: Any) -> list[list[int]]:
    """The rows of the ten nearest of some looks, and whose digests they are."""
    import numpy as np

    at = np.linspace(0, build.manifest.count - 1, ASKED).astype(int)
    found, _ = build.index.search(build.index.reconstruct(at), 10)
    return [[*build.rows[each].tolist(), int(build.digests[each].sum())] for each in found]


def same_files(one: Path, other: Path) -> bool:
    names = {path.name for path in other.iterdir()}
    return one.is_dir() and all(
        (one / name).is_file() and (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def mend(builds: Path, pristine: Path) -> None:
    """As it was, with new files only where something was changed."""
    for path in pristine.rglob("*"):
        there = builds / path.relative_to(pristine)
        if path.is_file() and (not there.is_file() or there.read_bytes() != path.read_bytes()):
            there.parent.mkdir(exist_ok=True)
            if there.is_dir():
                shutil.rmtree(there)
            shutil.copy2(path, there)


def note_of_the_past(chance: random.Random) -> None:
    """Now and then, let the builds have been verified a while ago, so that what is noted of their files counts."""
    from similarity.builds import current_manifest, verify

    if chance.random() < 0.1:
        time.sleep(0.06)
        verify(current_manifest(), anew=True)


# --- hurts ---------------------------------------------------------------------------------------
def victim(builds: Path, current: str, chance: random.Random) -> Path:
    if chance.random() < 0.15:
        return builds / "CURRENT"
    return chance.choice(sorted((builds / current).iterdir()))


def flip(builds: Path, current: str, former: str, chance: random.Random) -> str:
    path = victim(builds, current, chance)
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    write(path, bytes(data), chance)
    return f"flip: bit of byte {at} of {path.name}"


def truncate(builds: Path, current: str, former: str, chance: random.Random) -> str:
    path = victim(builds, current, chance)
    size = chance.randrange(path.stat().st_size)
    write(path, path.read_bytes()[:size], chance)
    return f"truncate: {path.name} to {size} bytes"


def append(builds: Path, current: str, former: str, chance: random.Random) -> str:
    path = victim(builds, current, chance)
    write(path, path.read_bytes() + chance.randbytes(chance.choice((1, 8, 4096))), chance)
    return f"append: to {path.name}"


def blank(builds: Path, current: str, former: str, chance: random.Random) -> str:
    """A page that a disk lost."""
    path = victim(builds, current, chance)
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data)) // 4096 * 4096
    there = len(data[at : at + 4096])
    data[at : at + 4096] = bytes(there)
    write(path, bytes(data), chance)
    return f"blank: a page of {path.name}"


def delete(builds: Path, current: str, former: str, chance: random.Random) -> str:
    path = victim(builds, current, chance)
    path.unlink()
    return f"delete: {path.name}"


def swap(builds: Path, current: str, former: str, chance: random.Random) -> str:
    one, other = chance.sample(sorted((builds / current).iterdir()), 2)
    data = one.read_bytes()
    write(one, other.read_bytes(), chance)
    write(other, data, chance)
    return f"swap: {one.name} with {other.name}"


def mix(builds: Path, current: str, former: str, chance: random.Random) -> str:
    """Some files of the former build among those of the current one, whole ones, of the same names."""
    names = sorted({path.name for path in (builds / former).iterdir()})
    taken = chance.sample(names, chance.randrange(1, len(names) + 1))
    for name in taken:
        write(builds / current / name, (builds / former / name).read_bytes(), chance)
    return f"mix: {', '.join(taken)} of the former build"


def remove(builds: Path, current: str, former: str, chance: random.Random) -> str:
    shutil.rmtree(builds / current)
    return "remove: the whole build"


def forged_note(builds: Path, current: str, former: str, chance: random.Random) -> str:
    """What is noted of verified files, damaged as well."""
    note = builds / "verified" / f"{current}.json"
    if note.is_file():
        data = bytearray(note.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        note.write_bytes(bytes(data))
    return "note: " + flip(builds, current, former, chance)


Hurt = Callable[[Path, str, str, random.Random], str]
HURTS: tuple[Hurt, ...] = (
    *((flip,) * 6),
    *((truncate,) * 3),
    *((mix,) * 2),
    *(append, blank, delete, swap, remove, forged_note),
)


def write(path: Path, data: bytes, chance: random.Random) -> None:
    """In place, or beside it and renamed; in a third of the cases with the times that the file had."""
    before = path.stat() if path.exists() else None
    if chance.random() < 0.5:
        path.write_bytes(data)
    else:
        aside = path.with_name(".aside")
        aside.write_bytes(data)
        aside.replace(path)
    if before is not None and chance.random() < 0.33:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if __name__ == "__main__":
    print(json.dumps(attempt(*map(int, sys.argv[1:]))))

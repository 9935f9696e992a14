"""`python -m bench.torture NAME --count N --seed S`: runs a scenario, prints its report as JSON, fails if it did."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.torture.ground import Shop

SCENARIOS = {
    "images": 50_000,
    "addresses": 1_000,
    "kills": 200,
    "disk": 21,
    "builds": 4_000,
    "swaps": 100,
    "fuzz": 10_000,
    "locks": 60,
    "postgres": 20,
}
"""What is tried when nobody says otherwise: pictures, spellings, kills of each of four kinds of process, full disks,
corruptions, publications, cases, seconds, and kills of a whole server."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.torture", description=__doc__)
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"])
    parser.add_argument("--count", type=int, help="how much is tried (its bar, if not given)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.scenario == "all":
        each = [sys.executable, "-m", "bench.torture", "--seed", str(options.seed)]
        with tempfile.TemporaryDirectory(prefix="vitrine-stock-") as folder:
            Shop(Path(folder)).stock()
            told = {**os.environ, "TORTURE_STOCK": folder}
            return max(subprocess.run([*each, name], env=told, check=False).returncode for name in SCENARIOS)
    start = time.monotonic()
    scenario = importlib.import_module(f"bench.torture.{options.scenario}")
    with tempfile.TemporaryDirectory(prefix="vitrine-torture-") as folder:
        report = scenario.run(options.count or SCENARIOS[options.scenario], options.seed, Path(folder))
    report.figures["took_s"] = round(time.monotonic() - start)
    print(json.dumps(report.to_json()), flush=True)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Known vulnerabilities of the pinned packages, from PyPI's advisories (pip-audit). Without a network, says that it was
skipped: a machine without one can still run every check.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pinned() -> list[str]:
    """What all the requirements files name, each once: they bring one another along."""
    lines = (line.strip() for path in sorted(ROOT.glob("requirements*.txt")) for line in path.read_text().splitlines())
    return sorted({line for line in lines if line and not line.startswith(("#", "-r "))})


def main() -> int:
    options = ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--timeout", "10", "--format", "json"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pinned()))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if "Connection" not in done.stderr and "HTTP" not in done.stderr:
            print(done.stderr, file=sys.stderr)
            return 1
        packages = []
    judged = [package for package in packages if "vulns" in package]
    if not judged:
        print("The audit of the pinned packages was skipped: no list of vulnerabilities can be had from here.")
        return 0
    found = [(package, each) for package in judged for each in package["vulns"]]
    for package, each in found:
        mended = ", ".join(each["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {each['id']}, mended in {mended}", file=sys.stderr)
    print(f"{len(judged)} of {len(packages)} pinned packages were audited: {len(found)} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

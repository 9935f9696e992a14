"""Fetch the files of others that lie in the repository, at the versions of package.json: `make vendor`.

Needs npm, which nothing else here does. A file that has changed shows in `git diff`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "htmx.org": ("dist/htmx.min.js", "LICENSE", ROOT / "static" / "vendor", "htmx-{version}.min.js"),
    "axe-core": ("axe.min.js", "LICENSE", ROOT / "tests" / "browser" / "vendor", "axe-core-{version}.min.js"),
}
"""Package → its file, its licence, the folder they go to, and the file's name there."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vitrine-vendor-") as folder:
        shutil.copy(ROOT / "package.json", folder)
        # Without a lock file, which would name a registry: the versions are exact and the packages need no others.
        command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=folder, check=True)
        for package, (file, licence, target, name) in FILES.items():
            fetched = Path(folder) / "node_modules" / package
            version = json.loads((fetched / "package.json").read_text())["version"]
            stem = name.partition("-{")[0]
            for former in target.glob(f"{stem}-[0-9]*.min.js"):
                former.unlink()
            shutil.copy(fetched / file, target / name.format(version=version))
            shutil.copy(fetched / licence, target / f"{stem}-LICENSE.txt")
            print(f"{target.relative_to(ROOT)}/{name.format(version=version)}")


if __name__ == "__main__":
    main()

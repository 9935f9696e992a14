"""Python processes of the tests: each has a deadline, and one that misses it says where it stood."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """The settings that users have, with a data folder of its own."""
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "VITRINE_DATA_DIR": str(data_dir), **more}


def run_python(
    *arguments: str, env: Mapping[str, str], check: bool = True, deadline_s: float = 150
) -> subprocess.CompletedProcess[str]:
    """`python *arguments` in the repository's root; its output is kept as text."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then writes where every thread is
        stdout, stderr = process.communicate(timeout=30)
        raise AssertionError(f"{arguments} took longer than {deadline_s} s:\n{stdout}{stderr}") from None
    assert not check or process.returncode == 0, f"{arguments} ended with {process.returncode}:\n{stdout}{stderr}"
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

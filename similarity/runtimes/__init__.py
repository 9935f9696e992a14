"""Runtimes: what runs a network. An embedder's network never knows which; `similarity.runtimes.choice` says.

Nothing here but `choice` knows of Django.
"""

import sys

from similarity.runtimes.base import Network, Runtime, RuntimeUnavailable, Session

__all__ = ["Network", "Runtime", "RuntimeUnavailable", "Session"]

# `import openvino` would tell its makers that it was imported: it forks the process, threads, locks and all, to ask
# an address of theirs, and where there is no way there, the copy can hang and hold what it was forked with. Without
# the package that reports, OpenVINO and NNCF use their stand-ins for it, and nothing leaves the machine.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

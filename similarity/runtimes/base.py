"""The contract of runtimes; `tests/similarity/test_runtimes.py` is its proof."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[Any]
"""(n, height, width, 3) uint8 where the network has a mean and a scale, else (n, 3, height, width) float32."""


class RuntimeUnavailable(Exception):
    """A network cannot be run as the settings say; the message names the way out."""


@dataclass(frozen=True)
class Network:
    """A network, and how pixels are to be normalised for it.

    `module()` gives the torch module, (n, 3, height, width) float32 → (n, dim) or whatever else a picture shall give:
    called only when it is needed, which is never once a runtime has a converted copy of its own. `mean` and `scale`
    are those of a channel, of pixels from 0 to 255; without them, pictures come normalised. `key` names weights and
    output.
    """

    key: str
    module: Callable[[], Any]
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None


class Session(ABC):
    """A network ready to run. Safe to use from several threads."""

    lanes: int = 1
    """How many batches it works on at once with profit."""
    batch: int = 16
    """Pictures a batch that it likes best."""

    @abstractmethod
    def infer(self, batch: Batch) -> NDArray[np.float32]:
        """What the network gives, (n, …) float32, of a batch of any size, as soon as possible."""

    def submit(self, batch: Batch) -> Future[NDArray[np.float32]]:
        """The same for throughput: at most `lanes` of them are worth having under way."""
        future: Future[NDArray[np.float32]] = Future()
        future.set_result(self.infer(batch))
        return future


class Runtime(ABC):
    """Makes sessions."""

    def accelerated(self) -> bool:
        """Whether there is a device faster than the processor."""
        return False

    @abstractmethod
    def best_float(self) -> str:
        """bfloat16 where the machine computes it natively, else float32."""

    @abstractmethod
    def open(
        self, network: Network, precision: str, example: Batch, cache: Path, calibration: Batch | None = None
    ) -> Session:
        """A session for pictures of the example's form (1, …). Converted networks are kept in the folder `cache`.

        `calibration` (n, …) are pictures by whose activations int8 is fitted, where that was not done before.
        """

"""PyTorch: on CUDA where there is one, else on the processor."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from similarity.runtimes.base import Batch, Network, Runtime, Session


class TorchRuntime(Runtime):
    def accelerated(self) -> bool:
        return torch.cuda.is_available()

    def best_float(self) -> str:
        if self.accelerated():
            return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
        return "float32"  # on a processor, torch's bfloat16 gains little and some networks lose

    def open(
        self, network: Network, precision: str, example: Batch, cache: Path, calibration: Batch | None = None
    ) -> Session:
        return TorchSession(network, precision)


class TorchSession(Session):
    def __init__(self, network: Network, precision: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch = 128 if self._device.type == "cuda" else 16
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        # Weights stay in float32; autocast chooses the matrix products, and leaves norms and sums alone.
        self._module: Any = network.module().eval().to(self._device)
        self._mean, self._scale = (
            None if values is None else torch.tensor(values, dtype=torch.float32, device=self._device)
            for values in (network.mean, network.scale)
        )
        self._lock = threading.Lock()

    def infer(self, batch: Batch) -> NDArray[np.float32]:
        with self._lock, torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
            if self._mean is not None and self._scale is not None:
                pixels = ((pixels.float() - self._mean) / self._scale).permute(0, 3, 1, 2).contiguous()
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
                vectors = self._module(pixels)
            result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result

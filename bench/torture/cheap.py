"""A real embedder that takes a millisecond, or as long as TORTURE_MODEL_DELAY_S says: the picture itself, a few pixels
wide.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similarity.embedders.base import Embedder, Identity
from similarity.regions import Regions


class ThumbnailEmbedder(Embedder):
    """float32 vectors of 3·side² dimensions: red, green and blue of side × side places."""

    def __init__(self, name: str, side: int = 8) -> None:
        super().__init__(name)
        self._side = side

    def identity(self) -> Identity:
        return Identity(self.name, revision="1", weights_sha256="none", preprocessing=f"{self._side} px")

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(self._small(image).ravel(), dtype=np.float32)

    def infer(self, prepared: NDArray[Any]) -> NDArray[Any]:
        time.sleep(float(os.environ.get("TORTURE_MODEL_DELAY_S", "0")))
        return prepared

    def regions(self, image: Image.Image) -> Regions:
        return Regions(self._small(image), (0.0, 0.0, 1.0, 1.0))

    def _small(self, image: Image.Image) -> NDArray[np.float32]:
        small = image.resize((self._side, self._side), Image.Resampling.BOX)
        return np.asarray(np.asarray(small, dtype=np.float32) / 255, dtype=np.float32)

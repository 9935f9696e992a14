"""A real, tiny embedder: a picture → its mean red, green and blue, and those of its quarters. Its answers can be told
on paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similarity.embedders.base import Embedder, Identity
from similarity.regions import Regions


class MeanColourEmbedder(Embedder):
    def __init__(self, name: str = "toy", revision: str = "1") -> None:
        super().__init__(name)
        self.revision = revision

    def identity(self) -> Identity:
        return Identity(self.name, self.revision, weights_sha256="none", preprocessing="none")

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        pixels = np.asarray(image, dtype=np.float32).reshape(-1, 3)
        return np.asarray(pixels.mean(axis=0) / 255, dtype=np.float32)

    def infer(self, prepared: NDArray[Any]) -> NDArray[Any]:
        return prepared

    def regions(self, image: Image.Image) -> Regions:
        quarters = np.asarray(image.resize((2, 2), Image.Resampling.BOX), dtype=np.float32)
        return Regions(np.asarray(quarters / 255, dtype=np.float32), (0.0, 0.0, 1.0, 1.0))

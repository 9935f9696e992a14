"""The contract every embedder keeps; `tests/similarity/test_embedders.py` is its proof."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from similarity.vectors import Matrix, unit

if TYPE_CHECKING:
    from PIL import Image


class EmbedderError(Exception):
    """An embedder could not do its work; the message is for the operator."""


class ModelUnavailable(EmbedderError):
    """The model's files cannot be had."""


@dataclass(frozen=True)
class Identity:
    """What a vector depends on besides the picture. Vectors of two identities are never compared."""

    name: str
    revision: str
    weights_sha256: str
    preprocessing: str

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that stand for it in names of folders."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


class Embedder(ABC):
    """Pictures → vectors of unit length, in two steps.

    `prepare` is done picture by picture, may run in several threads at once, and never loads the network;
    `infer` takes a batch. Making an embedder and asking its `identity` load no heavy library.
    """

    name: str

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def identity(self) -> Identity:
        """What the vectors depend on. Raises ModelUnavailable where the weights cannot be had."""

    @abstractmethod
    def prepare(self, image: Image.Image) -> NDArray[np.generic]:
        """What `infer` wants of one RGB picture; all pictures give arrays of one shape and dtype."""

    @abstractmethod
    def infer(self, prepared: NDArray[np.generic]) -> NDArray[np.floating]:
        """(n, …) stacked from `prepare` → (n, dim), of any length."""

    def embed_prepared(self, prepared: Sequence[NDArray[np.generic]]) -> Matrix:
        """Vectors (n, dim) float32 of prepared pictures, each of unit length, or zeros where nothing is seen.

        Raises EmbedderError where the network answers with something that is no number.
        """
        vectors = self.infer(np.stack(prepared))
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"{self.name} answered with values that are no numbers; are its weights whole?")
        return unit(vectors)

    def embed(self, images: Sequence[Image.Image]) -> Matrix:
        """Vectors (n, dim) float32 of RGB pictures, as `embed_prepared`."""
        return self.embed_prepared([self.prepare(image) for image in images])


def file_sha256(*paths: Path) -> str:
    """SHA-256 over the contents of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def limit_elongation(image: Image.Image, most: int = 8) -> Image.Image:
    """The picture, or its middle where one side is over `most` times the other.

    Bringing the shorter side of a picture of 10,000 × 1 pixels to 256 would take gigabytes.
    """
    width, height = image.size
    new_width, new_height = min(width, most * height), min(height, most * width)
    if (new_width, new_height) == (width, height):
        return image
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return image.crop((left, top, left + new_width, top + new_height))

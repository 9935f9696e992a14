"""The contract every embedder keeps; `tests/similarity/test_embedders.py` is its proof."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from similarity.regions import Regions
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
    numbers: str = "float"
    """"float" for float32 and bfloat16, whose neighbours are the same; "int8"."""

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

    def calibrate(self, images: Iterable[Image.Image]) -> None:  # noqa: B027 (most have nothing to do)
        """Look at some of the catalogue's pictures before the first is embedded; most embedders need not."""

    @property
    def computed_by(self) -> str:
        """Runtime and precision of its arithmetic, as "openvino bfloat16"; "" where there is no choice."""
        return ""

    @property
    def lanes(self) -> int:
        """How many batches are worth having under way at once."""
        return 1

    @property
    def batch(self) -> int:
        """How many pictures a batch should have."""
        return 16

    @property
    def shorter_px(self) -> int | None:
        """The shorter side at which pictures are wanted; decoders may stop at twice that. None: the whole picture."""
        return None

    def submit(self, prepared: NDArray[Any]) -> Future[NDArray[np.float32]]:
        """`infer` for throughput, perhaps in another thread."""
        future: Future[NDArray[np.float32]] = Future()
        try:
            future.set_result(np.asarray(self.infer(prepared), dtype=np.float32))
        except Exception as error:  # noqa: BLE001 (raised where the result is asked for)
            future.set_exception(error)
        return future

    def vectors(self, inferred: NDArray[np.floating]) -> Matrix:
        """Vectors (n, dim) float32 of what `infer` gave, of unit length, or zeros where nothing is seen.

        Raises EmbedderError where the network answers with something that is no number.
        """
        if not np.isfinite(inferred).all():
            raise EmbedderError(f"{self.name} answered with values that are no numbers; are its weights whole?")
        return unit(inferred)

    def embed(self, images: Sequence[Image.Image]) -> Matrix:
        """Vectors (n, dim) float32 of RGB pictures, as soon as possible."""
        return self.vectors(self.infer(np.stack([self.prepare(image) for image in images])))

    def regions(self, image: Image.Image) -> Regions:
        """What is seen in each region of an RGB picture. Raises EmbedderError where regions are not told apart."""
        raise EmbedderError(f"{self.name} does not tell the regions of a picture apart.")


def file_sha256(*paths: Path) -> str:
    """SHA-256 over the contents of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()

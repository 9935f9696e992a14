"""Any vision model of Hugging Face's transformers, by Hub id or from a folder; DINOv2 is the one we recommend."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from similarity.embedders.base import EmbedderError, Identity, ModelUnavailable, file_sha256
from similarity.embedders.network import NetworkEmbedder
from similarity.preprocessing import Box, Crop, limit_elongation, middle
from similarity.runtimes import Network
from similarity.runtimes.choice import chosen_vectors

if TYPE_CHECKING:
    from PIL import Image

POOLINGS = ("mean", "cls", "cls+mean")
_FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]


class TransformersEmbedder(NetworkEmbedder):
    """A picture → one vector pooled from the last hidden state.

    `name` is a Hub id (`facebook/dinov2-small`) or a folder written by `save_pretrained`; `revision` a branch,
    tag or commit of the Hub. `pooling`: "mean" over all tokens, as in the DINOv2 + FAISS recipe that Vitrine
    generalises; "cls", the first token alone (Oquab et al., "DINOv2", 2023); or "cls+mean", both, joined.
    Networks that answer with feature maps are averaged over the map, whatever the pooling.

    Weights are read from safetensors only, and no code of a model's repository is ever run.
    """

    def __init__(self, name: str, pooling: str = "mean", revision: str | None = None) -> None:
        super().__init__(name)
        if pooling not in POOLINGS:
            raise TypeError(f"pooling is one of {', '.join(POOLINGS)}, not {pooling!r}")
        self.pooling = pooling
        self.revision = revision

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie on this machine, fetched from the Hub when they are not yet here."""
        if Path(self.name).is_dir():
            folder = Path(self.name)
        elif re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.name) and not self.name.startswith("."):
            folder = self._hub_folder()
        else:
            raise ModelUnavailable(_ways_out(f"There is no folder {self.name}"))
        if not (folder / "config.json").is_file():
            raise ModelUnavailable(_ways_out(f"{folder} has no config.json: it is no folder of save_pretrained"))
        if not self._weights_in(folder):
            raise ModelUnavailable(
                _ways_out(f"{self.name} has no weights as .safetensors, and Vitrine reads no pickles")
            )
        if not (folder / "preprocessor_config.json").is_file():
            raise ModelUnavailable(
                _ways_out(f"{self.name} has no preprocessor_config.json, so its preprocessing is unknown")
            )
        return folder

    def _hub_folder(self) -> Path:
        from huggingface_hub import snapshot_download

        # What was fetched once is used again without asking the Hub: offline, and always the same weights.
        for local_only in (True, False):
            try:
                folder = Path(
                    snapshot_download(
                        self.name, revision=self.revision, allow_patterns=_FILES, local_files_only=local_only
                    )
                )
            except Exception as error:
                if local_only:
                    continue
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise ModelUnavailable(
                    _ways_out(f"The model {self.name} could not be had from the Hub ({reason})")
                ) from error
            if not local_only or self._weights_in(folder):
                return folder
        raise AssertionError("unreachable")

    @staticmethod
    def _weights_in(folder: Path) -> list[Path]:
        return sorted(folder.glob("*.safetensors"))

    @cached_property
    def _identity(self) -> Identity:
        processor = self._processor_config
        relevant = {key: processor[key] for key in sorted(processor) if key != "processor_class"}
        from_hub = self.folder.parent.name == "snapshots"
        return Identity(
            name=self.name if from_hub else str(self.folder.resolve()),
            revision=self.folder.name if from_hub else "folder",
            weights_sha256=file_sha256(self.folder / "config.json", *self._weights_in(self.folder)),
            preprocessing=f"{json.dumps(relevant, sort_keys=True)}, pooling {self.pooling}",
            numbers=chosen_vectors(),
        )

    def identity(self) -> Identity:
        return self._identity

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        try:
            # A folder of this machine, so that no revision is to be named.
            return AutoImageProcessor.from_pretrained(  # nosec B615
                self.folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
        except (OSError, ValueError, ImportError) as error:
            raise ModelUnavailable(_ways_out(f"The image processor of {self.name} cannot be used ({error})")) from error

    @cached_property
    def _crop(self) -> Crop | None:
        """The model's preprocessing, where it is the usual one; None where only its own processor can do it."""
        return usual_crop(self._processor_config)

    @cached_property
    def _processor_config(self) -> dict[str, Any]:
        path = self.folder / "preprocessor_config.json"
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ModelUnavailable(_ways_out(f"{path} cannot be read ({error})")) from error
        if not isinstance(content, dict):
            raise ModelUnavailable(_ways_out(f"{path} is not what save_pretrained writes"))
        return content

    @property
    def shorter_px(self) -> int | None:
        return self._crop.shorter_px if self._crop else None

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """(height, width, 3) uint8 where the preprocessing is the usual one, else (3, height, width) float32."""
        if self._crop is not None:
            return self._crop(image)
        # Threads prepare pictures at once; the processor's first import must not happen twice.
        with self._lock:
            processor = self._processor
        pixels = processor(images=limit_elongation(image), return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, dtype=np.float32)

    def network(self) -> Network:
        return self._network(self.pooling)

    def region_network(self) -> Network:
        return self._network("none")

    def _network(self, pooling: str) -> Network:
        identity = self.identity()
        key = f"{Path(self.name).name}-{identity.weights_sha256[:12]}-{pooling.replace('+', '-')}"
        if self._crop is None:
            return Network(key, lambda: self._load(pooling))
        return Network(f"{key}-{identity.key}", lambda: self._load(pooling), self._crop.mean, self._crop.scale)

    def box(self, width: int, height: int) -> Box:
        if self._crop is not None:
            return self._crop.box(width, height)
        config = self._processor_config
        size = config.get("size")
        if config.get("do_center_crop") or not (isinstance(size, dict) and set(size) == {"height", "width"}):
            raise EmbedderError(f"The image processor of {self.name} does not say where in a picture it looks.")
        left, top, right, bottom = middle(width, height)
        return (left / width, top / height, right / width, bottom / height)

    def grid(self, unpooled: NDArray[np.float32], prepared: NDArray[Any]) -> NDArray[np.float32]:
        """A feature map (dim, h, w), or tokens (n, dim) of which the last h × w are the patches, line by line.

        Those before them (the class, registers) stand for no region. Networks that merge patches on their way, as
        Swin does, have fewer and are refused.
        """
        if unpooled.ndim == 3:
            return super().grid(unpooled, prepared)
        height, width = prepared.shape[:2] if self._crop is not None else prepared.shape[1:]
        patch = self._patch_px
        rows, columns = (height // patch, width // patch) if patch else (0, 0)
        if not 0 < rows * columns <= len(unpooled):
            raise EmbedderError(f"{self.name} does not tell the regions of a picture apart.")
        return unpooled[-rows * columns :].reshape(rows, columns, -1)

    @cached_property
    def _patch_px(self) -> int:
        """The side of a patch, of the tower that sees; 0 where config.json names none."""
        config = json.loads((self.folder / "config.json").read_text())
        patch = config.get("vision_config", config).get("patch_size", 0)
        return patch if isinstance(patch, int) else 0

    def _load(self, pooling: str) -> Any:
        """The network and its pooling ("none": the last hidden state as it is), as a torch module."""
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # ours is enough
        try:
            # A folder of this machine.
            network = AutoModel.from_pretrained(  # nosec B615
                self.folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            raise ModelUnavailable(_ways_out(f"{self.name} cannot be loaded ({error})")) from error
        # Models of pictures and words, such as CLIP: only the tower that sees.
        network = getattr(network, "vision_model", network).float()

        class Pooled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                hidden: torch.Tensor = self.network(pixel_values=pixels).last_hidden_state
                if pooling == "none":
                    return hidden
                if hidden.ndim == 4:
                    return hidden.mean((2, 3))
                if pooling == "mean":
                    return hidden.mean(1)
                if pooling == "cls":
                    return hidden[:, 0]
                unit = torch.nn.functional.normalize
                return torch.cat([unit(hidden[:, 0]), unit(hidden.mean(1))], dim=1)

        return Pooled()


def usual_crop(processor: dict[str, Any]) -> Crop | None:
    """The preprocessing of a `preprocessor_config.json` as a `Crop`, if it is one: resize, crop, normalise."""
    size, crop = processor.get("size") or {}, processor.get("crop_size") or {}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    mean, deviation = processor.get("image_mean") or (), processor.get("image_std") or ()
    usual = (
        re.match(r"(Bit|CLIP)ImageProcessor", processor.get("image_processor_type", ""))
        and all(processor.get(f"do_{step}", True) for step in ("resize", "center_crop", "rescale", "normalize"))
        and isinstance(size, dict)
        and set(size) == {"shortest_edge"}
        and set(crop) == {"height", "width"}
        and max(crop.values()) <= size["shortest_edge"]
        and abs(processor.get("rescale_factor", 1 / 255) - 1 / 255) < 1e-9
        and len(mean) == len(deviation) == 3
    )
    if not usual:
        return None
    return Crop(
        shorter_px=size["shortest_edge"],
        height=crop["height"],
        width=crop["width"],
        mean=tuple(255 * value for value in mean),
        scale=tuple(255 * value for value in deviation),
        resample=processor.get("resample", 3),
    )


def _ways_out(trouble: str) -> str:
    return (
        f"{trouble}. Two ways out: give a folder with the model's files "
        "(--model /path/to/dinov2-small, or VITRINE_MODEL), or use the model that comes with Vitrine "
        "(--model efficientnet-lite0)."
    )

"""Any vision model of Hugging Face's transformers, by Hub id or from a folder; DINOv2 is the one we recommend."""

from __future__ import annotations

import json
import re
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from similarity.embedders.base import (
    Embedder,
    Identity,
    ModelUnavailable,
    file_sha256,
    limit_elongation,
)

if TYPE_CHECKING:
    from PIL import Image

POOLINGS = ("mean", "cls", "cls+mean")
_FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]


class TransformersEmbedder(Embedder):
    """A picture → one vector pooled from the last hidden state, in float32, on CUDA when there is one.

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
        self._lock = threading.Lock()
        self._network: Any = None

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
        processor = json.loads((self.folder / "preprocessor_config.json").read_text())
        relevant = {key: processor[key] for key in sorted(processor) if key != "processor_class"}
        from_hub = self.folder.parent.name == "snapshots"
        return Identity(
            name=self.name if from_hub else str(self.folder.resolve()),
            revision=self.folder.name if from_hub else "folder",
            weights_sha256=file_sha256(self.folder / "config.json", *self._weights_in(self.folder)),
            preprocessing=f"{json.dumps(relevant, sort_keys=True)}, pooling {self.pooling}",
        )

    def identity(self) -> Identity:
        return self._identity

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
        except (OSError, ValueError, ImportError) as error:
            raise ModelUnavailable(_ways_out(f"The image processor of {self.name} cannot be used ({error})")) from error

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """(3, height, width) float32, as the model's own processor makes it."""
        # Threads prepare pictures at once; the processor's first import must not happen twice.
        with self._lock:
            processor = self._processor
        pixels = processor(images=limit_elongation(image), return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, dtype=np.float32)

    def infer(self, prepared: NDArray[np.generic]) -> NDArray[np.floating]:
        import torch

        network = self._load()
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(prepared)).to(network.device)
            hidden = network(pixel_values=pixels).last_hidden_state
            if hidden.ndim == 4:
                pooled = hidden.mean((2, 3))
            elif self.pooling == "mean":
                pooled = hidden.mean(1)
            elif self.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                unit = torch.nn.functional.normalize
                pooled = torch.cat([unit(hidden[:, 0]), unit(hidden.mean(1))], dim=1)
            vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        return vectors

    def _load(self) -> Any:
        with self._lock:
            if self._network is None:
                import torch
                from safetensors import SafetensorError
                from transformers import AutoModel

                try:
                    network = AutoModel.from_pretrained(
                        self.folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
                    )
                except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
                    raise ModelUnavailable(_ways_out(f"{self.name} cannot be loaded ({error})")) from error
                # Models of pictures and words, such as CLIP: only the tower that sees.
                network = getattr(network, "vision_model", network)
                device = "cuda" if torch.cuda.is_available() else "cpu"
                self._network = network.to(device=device, dtype=torch.float32).eval()
            return self._network


def _ways_out(trouble: str) -> str:
    return (
        f"{trouble}. Two ways out: give a folder with the model's files "
        "(--model /path/to/dinov2-small, or VITRINE_MODEL), or use the model that comes with Vitrine "
        "(--model efficientnet-lite0)."
    )

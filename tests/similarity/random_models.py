"""Networks of random weights in the files that the Hub has: real architectures, nothing to download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def save_dinov2(folder: Path, **config: Any) -> Path:
    """A DINOv2 of random weights with its preprocessor, in the files that the Hub has."""
    import torch
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **config)).save_pretrained(folder)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        do_convert_rgb=True,
    )
    processor.save_pretrained(folder)
    # The Hub's file names the plain class.
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_processor_type": "BitImageProcessor"}))
    return folder


def save_clip(folder: Path, *, whole: bool = True) -> Path:
    """A tiny CLIP with its preprocessor: the whole of it, or only the tower that sees."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPVisionModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 99}, vision_config={**small, "image_size": 32, "patch_size": 16}
    )
    (CLIPModel(config) if whole else CLIPVisionModel(config.vision_config)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder

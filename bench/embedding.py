#!/usr/bin/env python
"""How fast pictures become vectors, and how faithfully: the plain loop and every runtime, interleaved in one run.

    python bench/embedding.py --model dinov2-small-random --images FOLDER [--fidelity-images FOLDER] [--json]

Speed is file on disk → vector in the space, over `--images`; rounds of all variants follow one another, so that a
noisy neighbour meets them all, and the median round counts. Fidelity is judged over `--fidelity-images` against the
plain loop's own vectors, after subtracting the set's mean, because the pictures of one catalogue are alike and raw
cosines hide everything. The share of the machine's limit compares the network's arithmetic alone with the fastest
matrix product measured in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Work in a folder of its own; the user's data is none of a benchmark's business.
FOLDER = tempfile.TemporaryDirectory(prefix="vitrine-bench-")
os.environ["VITRINE_DATA_DIR"] = FOLDER.name
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GFLOP = {"dinov2-small-random": 12.2, "efficientnet-lite0": 0.8}
"""Multiplications and additions of one picture of 224 px, in thousand millions."""


@dataclass
class Variant:
    """A way from files to vectors."""

    name: str
    runtime: str
    precision: str
    run: Callable[[list[Path]], np.ndarray]
    infer_alone: Callable[[], float] | None = None
    """Pictures a second through the network alone."""
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0", help="dinov2-small-random, efficientnet-lite0, DIR")
    parser.add_argument("--images", type=Path, default=ROOT / "fixtures" / "demo" / "images")
    parser.add_argument("--fidelity-images", type=Path)
    parser.add_argument("--limit", type=int, default=160, help="pictures timed in each round")
    parser.add_argument("--fidelity-limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="the default; for scripts that say so")
    arguments = parser.parse_args()
    files = pictures(arguments.images, arguments.limit)
    judged = pictures(arguments.fidelity_images or arguments.images, arguments.fidelity_limit)

    import django

    django.setup()
    say(f"{len(files)} pictures timed, {len(judged)} judged")
    variants = [plain_loop(arguments.model), *ours(arguments.model, judged)]
    for variant in variants:  # load, convert and compile before the clock runs
        variant.run(files[:16])
    for number in range(arguments.rounds):
        for variant in variants:
            watch = PeakMemory()
            started = time.perf_counter()
            with watch:
                variant.run(files)
            variant.seconds.append(time.perf_counter() - started)
            variant.peak_mib = max(variant.peak_mib, watch.mib)
            say(f"round {number + 1}: {variant.name} {len(files) / variant.seconds[-1]:.1f}/s")
    limit = matrix_limit_gflops()
    truth = variants[0].run(judged)
    report = {
        "model": arguments.model,
        "images": len(files),
        "judged": len(judged),
        "limit_gflops": {name: round(value) for name, value in limit.items()},
        "variants": [row(variant, variants[0], files, judged, truth, limit, arguments.model) for variant in variants],
    }
    print(json.dumps(report, indent=2))


def row(
    variant: Variant,
    plain: Variant,
    files: list[Path],
    judged: list[Path],
    truth: np.ndarray,
    limit: dict[str, float],
    model: str,
) -> dict[str, Any]:
    say(f"fidelity: {variant.name}")
    vectors = truth if variant is plain else variant.run(judged)
    smallest, mean, overlap = fidelity(truth, vectors)
    alone = variant.infer_alone() if variant.infer_alone else None
    best = limit.get(variant.precision)  # torch has no 8-bit product to compare with
    seconds = statistics.median(variant.seconds)
    return {
        "name": variant.name,
        "runtime": variant.runtime,
        "precision": variant.precision,
        "images_per_s": round(len(files) / seconds, 2),
        "ratio": round(statistics.median(p / v for p, v in zip(plain.seconds, variant.seconds, strict=True)), 2),
        "inference_alone_per_s": alone and round(alone, 1),
        "limit_share": round(alone * GFLOP[model] / best, 3) if alone and best and model in GFLOP else None,
        "peak_mib": round(variant.peak_mib),
        "min_cosine": round(smallest, 4),
        "mean_cosine": round(mean, 4),
        "top10_overlap": round(overlap, 4),
    }


def fidelity(truth: np.ndarray, vectors: np.ndarray) -> tuple[float, float, float]:
    """(smallest and mean cosine, top-10 overlap) of two sets (n, dim), each less its mean."""
    sets = [one - one.mean(0) for one in (truth, vectors)]
    a, b = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in sets)
    cosines = (a * b).sum(1)
    tops = []
    for one in (a, b):
        scores = one @ one.T
        np.fill_diagonal(scores, -np.inf)
        tops.append(np.argpartition(-scores, 10, axis=1)[:, :10])
    shared = [len(set(x) & set(y)) / 10 for x, y in zip(*tops, strict=True)]
    return float(cosines.min()), float(cosines.mean()), float(np.mean(shared))


# --- the plain loop -----------------------------------------------------------------------------


def plain_loop(model: str) -> Variant:
    """One picture at a time: Pillow, the model's transformers processor, one float32 forward pass."""
    import torch
    from PIL import Image

    processor, forward = plain_network(model)

    def run(files: list[Path]) -> np.ndarray:
        rows = []
        with torch.no_grad():
            for file in files:
                image = Image.open(file).convert("RGB")
                rows.append(forward(processor(images=image, return_tensors="pt")["pixel_values"]).numpy())
        return unit(np.concatenate(rows))

    return Variant("plain loop", "torch", "float32", run)


def plain_network(model: str) -> tuple[Any, Callable[[Any], Any]]:
    if model == "efficientnet-lite0":
        from similarity.embedders.efficientnet import EfficientNetEmbedder

        # The plain recipe takes ImageNet's figures for every network, and no mirror image.
        module = EfficientNetEmbedder(normalisation="imagenet", flip=False).network().module().eval()
        return bit_processor(), module
    from transformers import AutoImageProcessor, AutoModel

    folder = model_folder(model)
    network = AutoModel.from_pretrained(folder).eval()
    return AutoImageProcessor.from_pretrained(folder), lambda x: network(pixel_values=x).last_hidden_state.mean(1)


def bit_processor() -> Any:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    return BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=3,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_DEVIATION),
        do_convert_rgb=True,
    )


def model_folder(model: str) -> Path:
    """The folder of the model; that of the random DINOv2-small is written first."""
    if model != "dinov2-small-random":
        return Path(model)
    folder = Path(FOLDER.name) / "dinov2-small-random"
    if not folder.exists():
        import torch
        from transformers import Dinov2Config, Dinov2Model

        torch.manual_seed(0)
        size = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12}
        Dinov2Model(Dinov2Config(**size, image_size=518, patch_size=14)).save_pretrained(folder)
        bit_processor().save_pretrained(folder)
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "image_processor_type": "BitImageProcessor"}))
    return folder


# --- ours ---------------------------------------------------------------------------------------


def ours(model: str, judged: list[Path]) -> Iterator[Variant]:
    """The product's own embedder in every runtime and precision that this machine has."""
    from importlib.util import find_spec

    yield from (our_variant(model, "torch", precision, judged) for precision in ("float32", "bfloat16"))
    if find_spec("openvino"):
        precisions = ["float32", "bfloat16", *(["int8"] if find_spec("nncf") else [])]
        yield from (our_variant(model, "openvino", precision, judged) for precision in precisions)


def our_variant(model: str, runtime: str, precision: str, judged: list[Path]) -> Variant:
    from similarity.embedders.efficientnet import EfficientNetEmbedder
    from similarity.embedders.transformers import TransformersEmbedder
    from similarity.runtimes import get_runtime

    embedder: Any
    if model == "efficientnet-lite0":
        embedder = EfficientNetEmbedder(normalisation="imagenet", flip=False)
    else:
        embedder = TransformersEmbedder(str(model_folder(model)))
    from PIL import Image

    example = embedder.prepare(Image.new("RGB", (480, 640)))[None]
    calibration = None
    if precision == "int8":
        some = judged[:: max(1, len(judged) // 64)][:64]
        calibration = np.stack([embedder.prepare(Image.open(file).convert("RGB")) for file in some])
    cache = Path(FOLDER.name) / "converted"
    embedder.use(get_runtime(runtime).open(embedder.network(), precision, example, cache, calibration))

    def alone() -> float:
        batch = np.repeat(example, embedder.batch, axis=0)
        rates = []
        for _ in range(3):
            started, batches = time.perf_counter(), max(4, 64 // embedder.batch)
            with contextlib.suppress(StopIteration):
                pending = []
                for _ in range(batches):
                    pending.append(embedder.submit(batch))
                    if len(pending) > embedder.lanes:
                        pending.pop(0).result()
                for future in pending:
                    future.result()
            rates.append(batches * embedder.batch / (time.perf_counter() - started))
        return float(statistics.median(rates))

    return Variant(f"{runtime} {precision}", runtime, precision, lambda files: through_pipeline(files, embedder), alone)


def through_pipeline(files: list[Path], embedder: Any) -> np.ndarray:
    """The product's pipeline over these files into a space of their own; what the space then holds, in order."""
    from similarity import pipeline, products
    from similarity.products import Pictures
    from similarity.spaces import Space

    rows = np.arange(len(files), dtype=np.int64)
    pictures_ = Pictures(rows, np.zeros((len(files), 32), np.uint8))
    products.picture_paths = lambda rows: ((at, files[int(row)]) for at, row in enumerate(rows))
    with tempfile.TemporaryDirectory(dir=FOLDER.name) as folder:
        space = Space(Path(folder), embedder.identity())
        work = pipeline.plan_work(pictures_, {"style": space})
        with space.writing() as writer:
            for _ in pipeline.embed(work, {"style": embedder}, {"style": writer}):
                pass
        entries = space.read()
        return entries.take(entries.find(rows, pictures_.digests))


# --- measuring ----------------------------------------------------------------------------------


class PeakMemory:
    """The most memory this process held meanwhile, by looking every 20 ms."""

    mib = 0.0

    def __enter__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        page = resource.getpagesize()
        while not self._stop.wait(0.02):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self.mib = max(self.mib, resident / 2**20)


def matrix_limit_gflops() -> dict[str, float]:
    """The fastest matrix product of a few shapes, by torch, in each precision: what the machine can do."""
    import torch

    best: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        for m, k, n in ((2056, 384, 1536), (2056, 1536, 384), (2048, 2048, 2048), (4096, 1024, 1024)):
            a, b = torch.rand(m, k).to(dtype), torch.rand(k, n).to(dtype)
            with torch.inference_mode():
                a @ b
                for _ in range(5):
                    started = time.perf_counter()
                    for _ in range(4):
                        a @ b
                    rate = 4 * 2 * m * k * n / (time.perf_counter() - started) / 1e9
                    best[name] = max(best.get(name, 0.0), rate)
    return best


def pictures(folder: Path, limit: int) -> list[Path]:
    found = list(islice(sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png")), limit))
    if not found:
        sys.exit(f"no pictures in {folder}")
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

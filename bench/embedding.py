#!/usr/bin/env python
"""How fast pictures become vectors, and how faithfully: the plain loop and every runtime, interleaved in one run.

    python bench/embedding.py --model dinov2-small-random --images FOLDER [--fidelity-images FOLDER] [--json]

Speed is file on disk → vector in the space, over `--images`; rounds of all variants follow one another, so that a
noisy neighbour meets them all, and the median round counts. Every variant is a process of its own, which does nothing
while the others are timed. Fidelity is judged over `--fidelity-images` against the plain loop's own vectors, after
subtracting the set's mean, because the pictures of one catalogue are alike and raw cosines hide everything. The share
of the machine's limit compares the network's arithmetic alone with the fastest matrix product of the same run.

Where Django is not installed (a machine with a GPU and no more than torch, transformers, pillow and numpy), the torch
variants run behind a pipeline of this file's own; without a space, a file's vector ends in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GFLOP = {"dinov2-small-random": 12.2, "efficientnet-lite0": 0.8}
"""Multiplications and additions of one picture of 224 px, in thousand millions."""
UPLOADS = 40

Run = Callable[[list[Path]], np.ndarray]


@dataclass(frozen=True)
class Variant:
    """A way from files to vectors."""

    name: str
    runtime: str
    precision: str


PLAIN = Variant("plain loop", "torch", "float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0", help="dinov2-small-random, efficientnet-lite0, DIR")
    parser.add_argument("--images", type=Path, default=ROOT / "fixtures" / "demo" / "images")
    parser.add_argument("--fidelity-images", type=Path)
    parser.add_argument("--limit", type=int, default=160, help="pictures timed in each round")
    parser.add_argument("--fidelity-limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", metavar="NAME", help="this variant, as 'openvino bfloat16'")
    parser.add_argument("--json", action="store_true", help="the default; for scripts that say so")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(**json.loads(arguments.worker))
    files = pictures(arguments.images, arguments.limit)
    judged = pictures(arguments.fidelity_images or arguments.images, arguments.fidelity_limit)
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as folder:
        write_random_dinov2(Path(folder), arguments.model)
        variants = [one for one in available_variants() if not arguments.only or one.name in arguments.only]
        report = measure([PLAIN, *variants], arguments.model, files, judged, arguments.rounds, Path(folder))
    print(json.dumps(report, indent=2))


def measure(
    variants: list[Variant], model: str, files: list[Path], judged: list[Path], rounds: int, folder: Path
) -> dict[str, Any]:
    say(f"{len(files)} pictures timed, {len(judged)} judged")
    # One after another: the second finds the network converted by the first.
    workers = [Worker(variant, model, judged, folder) for variant in variants]
    try:
        for number in range(rounds):
            for worker in workers:
                worker.time(files)
                say(f"round {number + 1}: {worker.variant.name} {len(files) / worker.seconds[-1]:.1f}/s")
        limit: dict[str, float] = workers[0].ask("limit")
        for worker in workers:
            worker.ask("save", judged, str(worker.saved))
        truth = np.load(workers[0].saved)
        rows = [row(worker, workers[0], files, truth, limit, model) for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    return {
        "model": model,
        "images": len(files),
        "judged": len(judged),
        "limit_gflops": {name: round(value) for name, value in limit.items()},
        "variants": rows,
    }


def row(
    worker: Worker, plain: Worker, files: list[Path], truth: np.ndarray, limit: dict[str, float], model: str
) -> dict[str, Any]:
    variant = worker.variant
    smallest, mean, overlap = fidelity(truth, np.load(worker.saved))
    alone = worker.ask("alone")
    upload_s = worker.ask("upload", files[:UPLOADS])
    best = limit.get(variant.precision)  # torch has no 8-bit product to compare with
    return {
        "name": variant.name,
        "runtime": variant.runtime,
        "precision": variant.precision,
        "images_per_s": round(len(files) / statistics.median(worker.seconds), 2),
        "ratio": round(statistics.median(p / v for p, v in zip(plain.seconds, worker.seconds, strict=True)), 2),
        "inference_alone_per_s": alone and round(alone, 1),
        "limit_share": round(alone * GFLOP[model] / best, 3) if alone and best and model in GFLOP else None,
        "upload_p50_ms": upload_s and round(1000 * statistics.median(upload_s), 1),
        "peak_mib": round(worker.peak_mib),
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


# --- processes ----------------------------------------------------------------------------------


@dataclass(eq=False)
class Worker:
    """A variant in a process of its own, loaded and warm, which does what it is asked and otherwise nothing."""

    variant: Variant
    model: str
    judged: list[Path]
    folder: Path
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def __post_init__(self) -> None:
        say(f"loading: {self.variant.name}")
        self.saved = self.folder / f"{self.variant.name}.npy"
        told = {
            "variant": asdict(self.variant),
            "model": self.model,
            "folder": str(self.folder),
            "calibration": [str(path) for path in self.judged[:: max(1, len(self.judged) // 64)][:64]],
        }
        command = [sys.executable, __file__, "--worker", json.dumps(told)]
        # Work in a folder of its own; the user's data is none of a benchmark's business.
        environment = {**os.environ, "VITRINE_DATA_DIR": str(self.folder), "DJANGO_SETTINGS_MODULE": "config.settings"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.ask("time", self.judged[:16])  # load, convert and compile before the clock runs

    def time(self, files: list[Path]) -> None:
        seconds, peak_mib = self.ask("time", files)
        self.seconds.append(seconds)
        self.peak_mib = max(self.peak_mib, peak_mib)

    def ask(self, what: str, files: list[Path] | None = None, path: str = "") -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, [str(file) for file in files or []], path]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{self.variant.name} ended with an error; it stands above.")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def work(variant: dict[str, str], model: str, folder: str, calibration: list[str]) -> None:
    """What such a process does: answers lines of JSON until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    one = make(Variant(**variant), model, Path(folder), [Path(path) for path in calibration])
    for line in sys.stdin:
        what, names, path = json.loads(line)
        files = [Path(name) for name in names]
        answer: Any = None
        if what == "time":
            forget_peak()
            started = time.perf_counter()
            one.run(files)
            answer = (time.perf_counter() - started, peak_mib())
        elif what == "save":
            np.save(path, one.run(files))
        elif what == "alone":
            answer = one.alone and one.alone()
        elif what == "upload":
            answer = one.upload and [timed(one.upload, file.read_bytes()) for file in files]
        elif what == "limit":
            answer = matrix_limit_gflops()
        print(json.dumps(answer), file=answers, flush=True)


def timed(function: Callable[[bytes], object], argument: bytes) -> float:
    started = time.perf_counter()
    function(argument)
    return time.perf_counter() - started


@dataclass(frozen=True)
class Way:
    """What a worker's process can do."""

    run: Run
    alone: Callable[[], float] | None = None
    """Pictures a second through the network alone."""
    upload: Callable[[bytes], object] | None = None
    """One picture's bytes, as somebody sends them → its vector."""


def make(variant: Variant, model: str, folder: Path, calibration: list[Path]) -> Way:
    if variant == PLAIN:
        return plain_loop(model, folder)
    if not find_spec("django"):
        return torch_by_itself(model, folder, variant.precision)
    import django

    django.setup()
    return product(variant, model, folder, calibration)


def available_variants() -> list[Variant]:
    """The product's own embedder in every runtime and precision that this machine has."""
    runs = [("torch", "float32"), ("torch", "bfloat16")]
    if find_spec("openvino") and find_spec("django"):
        runs += [("openvino", "float32"), ("openvino", "bfloat16")]
        runs += [("openvino", "int8")] if find_spec("nncf") else []
    return [Variant(f"{runtime} {precision}", runtime, precision) for runtime, precision in runs]


# --- the plain loop -----------------------------------------------------------------------------


def plain_loop(model: str, folder: Path) -> Way:
    """One picture at a time: Pillow, the model's transformers processor, one float32 forward pass."""
    import torch
    from PIL import Image

    processor, network = plain_network(model, folder)

    def run(files: list[Path]) -> np.ndarray:
        rows = []
        with torch.no_grad():
            for file in files:
                image = Image.open(file).convert("RGB")
                rows.append(network(processor(images=image, return_tensors="pt")["pixel_values"]).numpy())
        return unit(np.concatenate(rows))

    return Way(run)


def plain_network(model: str, folder: Path) -> tuple[Any, Any]:
    """The model's processor of pictures, and its network up to the pooled vector, as a torch module."""
    if model == "efficientnet-lite0":
        from similarity.embedders.efficientnet import EfficientNetEmbedder

        # The plain recipe takes ImageNet's figures for every network, and no mirror image.
        module = EfficientNetEmbedder(normalisation="imagenet", flip=False).network().module().eval()
        return bit_processor(), module
    import torch
    from transformers import AutoImageProcessor, AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = AutoModel.from_pretrained(model_folder(model, folder))

        def forward(self, pixels: torch.Tensor) -> Any:
            return self.network(pixel_values=pixels).last_hidden_state.mean(1)

    return AutoImageProcessor.from_pretrained(model_folder(model, folder)), Pooled().eval()


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


def model_folder(model: str, folder: Path) -> Path:
    return folder / model if model == "dinov2-small-random" else Path(model)


def write_random_dinov2(folder: Path, model: str) -> None:
    """The real DINOv2-small with random weights, as `save_pretrained` writes it, where that is the model asked for."""
    if model != "dinov2-small-random":
        return
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    size = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12}
    Dinov2Model(Dinov2Config(**size, image_size=518, patch_size=14)).save_pretrained(folder / model)
    bit_processor().save_pretrained(folder / model)
    path = folder / model / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_processor_type": "BitImageProcessor"}))


# --- ours ---------------------------------------------------------------------------------------


def product(variant: Variant, model: str, folder: Path, calibration: list[Path]) -> Way:
    """The product's embedder and pipeline."""
    from catalog.images import open_rgb, verify
    from similarity.embedders.efficientnet import EfficientNetEmbedder
    from similarity.embedders.transformers import TransformersEmbedder
    from similarity.runtimes.choice import get_runtime

    embedder: Any
    if model == "efficientnet-lite0":
        embedder = EfficientNetEmbedder(normalisation="imagenet", flip=False)
    else:
        embedder = TransformersEmbedder(str(model_folder(model, folder)))
    prepared = np.stack([embedder.prepare(open_rgb(path)) for path in calibration])
    runtime = get_runtime(variant.runtime)
    embedder.use(runtime.open(embedder.network(), variant.precision, prepared[:1], folder / "converted", prepared))
    batch = np.resize(prepared, (embedder.batch, *prepared.shape[1:]))
    return Way(
        run=lambda files: through_pipeline(files, embedder, folder),
        alone=lambda: rate_alone(lambda: embedder.submit(batch), len(batch), embedder.lanes),
        upload=lambda data: embedder.embed([verify(data).image]),
    )


def through_pipeline(files: list[Path], embedder: Any, folder: Path) -> np.ndarray:
    """The product's pipeline over these files into a space of their own; what the space then holds, in order."""
    from similarity import pipeline, products
    from similarity.products import Pictures
    from similarity.spaces import Space

    rows = np.arange(len(files), dtype=np.int64)
    pictures_ = Pictures(rows, np.zeros((len(files), 32), np.uint8))
    products.picture_paths = lambda rows: ((at, files[int(row)]) for at, row in enumerate(rows))
    with tempfile.TemporaryDirectory(dir=folder) as own:
        space = Space(Path(own), embedder.identity())
        work_ = pipeline.plan_work(pictures_, {"style": space})
        with space.writing() as writer:
            for _ in pipeline.embed(work_, {"style": embedder}, {"style": writer}):
                pass
        entries = space.read()
        return entries.take(entries.find(rows, pictures_.digests))


def torch_by_itself(model: str, folder: Path, precision: str) -> Way:
    """The product's torch runtime and preprocessing, with threads that decode in front of them."""
    from PIL import Image

    from similarity.preprocessing import Crop
    from similarity.runtimes import Network
    from similarity.runtimes.torch import TorchSession

    crop = Crop(
        256, 224, 224, tuple(255 * value for value in IMAGENET_MEAN), tuple(255 * value for value in IMAGENET_DEVIATION)
    )
    session = TorchSession(Network(model, lambda: plain_network(model, folder)[1], crop.mean, crop.scale), precision)

    def prepare(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            image.draft("RGB", (2 * crop.shorter_px, 2 * crop.shorter_px))
            return crop(image.convert("RGB"))

    def run(files: list[Path]) -> np.ndarray:
        rows = []
        with ThreadPoolExecutor() as pool:
            prepared = pool.map(prepare, files)
            while batch := list(islice(prepared, session.batch)):
                rows.append(session.infer(np.stack(batch)))
        return unit(np.concatenate(rows))

    batch = np.zeros((session.batch, crop.height, crop.width, 3), np.uint8)
    return Way(run, lambda: rate_alone(lambda: session.submit(batch), len(batch), 1))


# --- measuring ----------------------------------------------------------------------------------


def rate_alone(submit: Callable[[], Any], size: int, lanes: int) -> float:
    """Pictures a second through the network, with a batch more on its way than it works on: the median of 5 spells."""
    batches, rates = 10 * lanes, []
    for _ in range(6):  # the first warms up
        pending: list[Any] = []
        started = time.perf_counter()
        for _ in range(batches):
            pending.append(submit())
            if len(pending) > lanes:
                pending.pop(0).result()
        for future in pending:
            future.result()
        rates.append(batches * size / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def forget_peak() -> None:
    """Let the system count this process's most memory anew (Linux, see proc(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        say("the peak of memory counts from the start of the process here")


def peak_mib() -> float:
    """The most memory this process held since `forget_peak`."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def matrix_limit_gflops() -> dict[str, float]:
    """The fastest matrix product of a few shapes, by torch, in each precision: what the machine can do."""
    import torch

    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    shapes = [(2056, 384, 1536), (2056, 1536, 384), (2048, 2048, 2048), (4096, 1024, 1024)]
    shapes += [(8192, 8192, 8192)] if gpu else []
    best: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        for m, k, n in shapes:
            a, b = (torch.rand(shape, device=device).to(dtype) for shape in ((m, k), (k, n)))
            with torch.inference_mode():
                a @ b
                for _ in range(8):
                    synchronise(torch)
                    started = time.perf_counter()
                    for _ in range(4):
                        a @ b
                    synchronise(torch)
                    rate = 4 * 2 * m * k * n / (time.perf_counter() - started) / 1e9
                    best[name] = max(best.get(name, 0.0), rate)
    return best


def synchronise(torch: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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

"""OpenVINO on the processor: the network converted once, normalisation inside it, two batches side by side.

A batch that has a core to itself waits for nobody: two streams of one thread each pass one stream of two threads
by a fifth (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.preprocess import PrePostProcessor

from similarity.runtimes.base import Batch, Network, Runtime, RuntimeUnavailable, Session
from similarity.runtimes.bfloat16 import made_ready

logger = logging.getLogger(__name__)

BATCH = 8

# OpenVINO fills its tables of number types when they are first needed, behind a lock of C++ during which Python's own
# may change hands: of two threads that begin together, each then waits for what the other holds, for ever. So they are
# filled here, while one thread imports this.
ov.Type.f32.to_dtype()
ov.Tensor(np.zeros(1, np.float32))


class OpenVinoRuntime(Runtime):
    def best_float(self) -> str:
        native = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return "bfloat16" if native else "float32"

    def open(
        self, network: Network, precision: str, example: Batch, cache: Path, calibration: Batch | None = None
    ) -> Session:
        if precision == "int8":
            # What is not quantised is computed as fast as float's fidelity allows.
            model = _kept(network, example, cache, "int8", lambda: _quantised(network, example, cache, calibration))
            return OpenVinoSession(model, self.best_float(), example)
        if precision == "bfloat16":
            model = _kept(network, example, cache, precision, lambda: made_ready(_converted(network, example, cache)))
            return OpenVinoSession(model, precision, example)
        return OpenVinoSession(_converted(network, example, cache), precision, example)


class OpenVinoSession(Session):
    """Two compiled forms of one network: batches of 8 for throughput, one picture at once for whoever waits."""

    batch = BATCH

    def __init__(self, model: ov.Model, precision: str, example: Batch) -> None:
        self.lanes = max(1, os.cpu_count() or 1)
        self._core = ov.Core()
        self._model, self._precision, self._form = model, precision, example.shape[1:]
        self._lock = threading.Lock()
        self._wide: _Compiled | None = None
        self._narrow: _Compiled | None = None
        self._pool: ThreadPoolExecutor | None = None

    def infer(self, batch: Batch) -> NDArray[np.float32]:
        with self._lock:
            if self._narrow is None:
                self._narrow = self._compile(1, "LATENCY", 1)
        return np.concatenate([self._narrow.run(batch[at : at + 1]) for at in range(len(batch))])

    def submit(self, batch: Batch) -> Future[NDArray[np.float32]]:
        with self._lock:
            if self._wide is None or self._pool is None:
                self._wide = self._compile(BATCH, "THROUGHPUT", self.lanes)
                self._pool = ThreadPoolExecutor(self.lanes, thread_name_prefix="infer")
            wide = self._wide
        return self._pool.submit(self._run_wide, wide, batch)

    def _run_wide(self, wide: _Compiled, batch: Batch) -> NDArray[np.float32]:
        pieces = []
        for start in range(0, len(batch), BATCH):
            piece = batch[start : start + BATCH]
            short = BATCH - len(piece)
            if short:  # the last pictures of all: filled up, as the network was compiled for whole batches
                piece = np.concatenate([piece, np.zeros((short, *piece.shape[1:]), piece.dtype)])
            pieces.append(wide.run(piece)[: BATCH - short])
        return np.concatenate(pieces)

    def _compile(self, batch: int, hint: str, streams: int) -> _Compiled:
        model = self._model.clone()
        model.reshape([batch, *self._form])
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": hint,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "bf16" if self._precision == "bfloat16" else "f32",
        }
        return _Compiled(self._core.compile_model(model, "CPU", options))


class _Compiled:
    """A compiled network with a request for each thread that uses it."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self._local = threading.local()

    def run(self, batch: Batch) -> NDArray[np.float32]:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        result = self._local.request.infer({0: np.ascontiguousarray(batch)}, share_inputs=True)
        return np.array(result[0], dtype=np.float32)


def _converted(network: Network, example: Batch, cache: Path) -> ov.Model:
    return _kept(network, example, cache, "float", lambda: _convert(network, example))


def _kept(network: Network, example: Batch, cache: Path, numbers: str, make: Callable[[], ov.Model]) -> ov.Model:
    """The network in OpenVINO's own form: from the cache, or made now and kept there."""
    form = "x".join(map(str, example.shape[1:]))
    name = f"{network.key}-{form}-{numbers}-openvino-{ov.__version__.split('-')[0]}"
    path = cache / f"{name}.xml"
    if path.is_file() and path.with_suffix(".bin").is_file():
        try:
            return ov.Core().read_model(path)
        except RuntimeError as error:
            logger.warning("The converted network %s is not whole and is made anew: %s", path, error)
    model = make()
    cache.mkdir(parents=True, exist_ok=True)
    aside = cache / f".{os.getpid()}-{name}.xml"
    ov.save_model(model, aside, compress_to_fp16=False)
    # The weights first: whoever finds the .xml finds the .bin.
    aside.with_suffix(".bin").replace(path.with_suffix(".bin"))
    aside.replace(path)
    return model


def _quantised(network: Network, example: Batch, cache: Path, calibration: Batch | None) -> ov.Model:
    """The network in 8-bit integers, by NNCF, fitted on the activations that pictures of the catalogue give."""
    if calibration is None or not len(calibration):
        raise RuntimeUnavailable(
            "int8 is calibrated on pictures of the catalogue, which has not been done here. "
            "Run: python manage.py build_index"
        )
    try:
        import nncf
    except ImportError as error:
        raise RuntimeUnavailable("int8 needs NNCF. Run: pip install -r requirements-int8.txt") from error
    nncf.set_log_level(logging.ERROR)
    model = _converted(network, example, cache)
    pictures = nncf.Dataset([picture[np.newaxis] for picture in calibration])
    with contextlib.redirect_stdout(sys.stderr):  # where its progress belongs
        quantised: ov.Model = nncf.quantize(
            model,
            pictures,
            subset_size=len(calibration),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            **_for_transformers(nncf) if _attends(model) else {},
        )
    return quantised


def _for_transformers(nncf: Any) -> dict[str, Any]:
    """Activations are smoothed first (Xiao et al., "SmoothQuant", 2022): what is hard to quantise in them goes into
    the weights, half of it. NNCF's own choice, 95 %, loses twice as many neighbours (docs/performance.md).
    """
    alphas = nncf.AdvancedSmoothQuantParameters(matmul=0.5)
    return {
        "model_type": nncf.ModelType.TRANSFORMER,
        "advanced_parameters": nncf.AdvancedQuantizationParameters(smooth_quant_alphas=alphas),
    }


def _attends(model: ov.Model) -> bool:
    """Whether the network is a transformer."""
    return any(node.get_type_name() in ("ScaledDotProductAttention", "Softmax") for node in model.get_ops())


def _convert(network: Network, example: Batch) -> ov.Model:
    """By the frontend itself: `openvino.convert_model` reports its use to its makers."""
    import torch
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    takes_pixels = network.mean is not None
    height, width = example.shape[1:3] if takes_pixels else example.shape[2:4]
    module = network.module().eval()
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing notes every shape that it takes for a constant: the shapes of pictures are constant here.
        warnings.simplefilter("ignore")
        traced = torch.zeros(1, 3, height, width)
        decoder = TorchScriptPythonDecoder(module, example_input=(traced,))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.inputs[0].get_node().set_element_type(ov.Type.f32)
    model.inputs[0].get_node().set_partial_shape(ov.PartialShape([-1, 3, height, width]))
    model.validate_nodes_and_infer_types()
    if not takes_pixels:
        return model
    processor = PrePostProcessor(model)
    pixels = processor.input(0)
    pixels.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    pixels.model().set_layout(ov.Layout("NCHW"))
    pixels.preprocess().convert_element_type(ov.Type.f32).mean(list(network.mean or ())).scale(
        list(network.scale or ())
    )
    return processor.build()

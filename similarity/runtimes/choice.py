"""Which runtime: chosen by settings, or by what the machine has."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from similarity.runtimes.base import Runtime

logger = logging.getLogger(__name__)

RUNTIMES = {
    "torch": "similarity.runtimes.torch.TorchRuntime",
    "openvino": "similarity.runtimes.openvino.OpenVinoRuntime",
}
PRECISIONS = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Choice:
    """A runtime by name, and the precision it works in."""

    runtime: str
    precision: str

    @property
    def vectors(self) -> str:
        """Whose vectors may lie in one space. bfloat16 keeps float32's neighbours, int8 does not.

        Top-10 overlap with float32 on 1,906 real products: see docs/performance.md.
        """
        return "int8" if self.precision == "int8" else "float"


def choose_runtime() -> Choice:
    """The settings' runtime and precision, with "auto" resolved: what is fastest here at float32's fidelity."""
    configured = settings.SIMILARITY["RUNTIME"]
    return _resolve(configured["NAME"], configured["PRECISION"])


def chosen_vectors() -> str:
    """`choose_runtime().vectors` without looking at the machine, so that a page imports no heavy library."""
    return Choice("any", settings.SIMILARITY["RUNTIME"]["PRECISION"]).vectors


@cache
def _resolve(name: str, precision: str) -> Choice:
    if name not in ("auto", *RUNTIMES):
        raise ImproperlyConfigured(f"VITRINE_RUNTIME is '{name}'; it can be auto, {' or '.join(RUNTIMES)}.")
    if precision not in ("auto", *PRECISIONS):
        raise ImproperlyConfigured(f"VITRINE_PRECISION is '{precision}'; it can be auto, {', '.join(PRECISIONS)}.")
    chosen = name
    if name == "auto":
        chosen = "torch" if _has_gpu() or not find_spec("openvino") else "openvino"
    if precision == "int8" and chosen != "openvino":
        raise ImproperlyConfigured("VITRINE_PRECISION=int8 needs VITRINE_RUNTIME=openvino.")
    if precision == "auto":
        precision = get_runtime(chosen).best_float()
    logger.info("Networks are run by %s in %s (asked for: %s).", chosen, precision, name)
    return Choice(chosen, precision)


def _has_gpu() -> bool:
    """Whether torch would find one. The driver is asked first: importing torch takes seconds."""
    return Path("/proc/driver/nvidia").exists() and get_runtime("torch").accelerated()


def get_runtime(name: str) -> Runtime:
    """Raises ImproperlyConfigured where its library cannot be had."""
    try:
        runtime: Runtime = import_string(RUNTIMES[name])()
    except ImportError as error:
        raise ImproperlyConfigured(f"VITRINE_RUNTIME={name} cannot be used: {error}") from error
    return runtime

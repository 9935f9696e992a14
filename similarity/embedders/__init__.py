"""Embedders: pictures → vectors, chosen by settings, as Django chooses caches.

Ask `get_embedder(model)`; never import an engine.
"""

from __future__ import annotations

import threading
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from similarity.embedders.base import Embedder, EmbedderError, Identity, ModelUnavailable

__all__ = ["Embedder", "EmbedderError", "Identity", "ModelUnavailable", "get_embedder"]

_embedders: dict[str, Embedder] = {}
_lock = threading.Lock()


def get_embedder(model: str) -> Embedder:
    """This process's embedder of that model; its network is loaded when it is first used.

    `model` is a name in `SIMILARITY["EMBEDDERS"]`; any other is made by the entry "*": a Hub id or a folder.
    Raises ImproperlyConfigured where the settings name a class that cannot be had.
    """
    with _lock:
        if model not in _embedders:
            _embedders[model] = _make_embedder(model)
        return _embedders[model]


def _make_embedder(model: str) -> Embedder:
    configured: dict[str, Any] = settings.SIMILARITY["EMBEDDERS"]
    key = model if model in configured and model != "*" else "*"
    if key not in configured:
        raise ImproperlyConfigured(
            f"SIMILARITY['EMBEDDERS'] has neither '{model}' nor '*': no embedder can be made for it."
        )
    backend = configured[key]["BACKEND"]
    options = configured[key].get("OPTIONS", {})
    try:
        embedder: Embedder = import_string(backend)(name=model, **options)
    except (ImportError, TypeError) as error:
        raise ImproperlyConfigured(f"SIMILARITY['EMBEDDERS']['{key}'] cannot be used: {backend}: {error}") from error
    return embedder


def _forget_embedders(*, setting: str, **_: Any) -> None:
    if setting == "SIMILARITY":
        with _lock:
            _embedders.clear()


setting_changed.connect(_forget_embedders)

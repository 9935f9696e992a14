"""Index engines, chosen by `SIMILARITY["INDEX"]["BACKEND"]`. Ask `get_engine()`; never import one."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from similarity.indexes.base import VectorIndex, VectorIndexError

__all__ = ["VectorIndex", "VectorIndexError", "get_engine"]


def get_engine(backend: str | None = None) -> type[VectorIndex]:
    """The class of that dotted path, or of the settings'. Raises ImproperlyConfigured where it cannot be had."""
    path = backend or settings.SIMILARITY["INDEX"]["BACKEND"]
    try:
        engine: type[VectorIndex] = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"SIMILARITY['INDEX']['BACKEND'] is {path}: {error}") from error
    return engine

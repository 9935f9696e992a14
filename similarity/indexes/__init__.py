"""Index engines, chosen by `SIMILARITY["INDEX"]["BACKEND"]`. Ask `get_engine()`; never import one."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from similarity.indexes.base import VectorIndex, VectorIndexError

__all__ = ["VectorIndex", "VectorIndexError", "engine_name", "engine_path", "get_engine"]


NEEDS = {
    "pgvector": "requirements-postgres.txt",
    "psycopg": "requirements-postgres.txt",
    "pymilvus": "requirements-milvus.txt",
    "grpc": "requirements-milvus.txt",
}
"""Which file names what an engine imports and not every installation has."""


def engine_path(name: str) -> str:
    """The dotted path of an engine that people call so: `faiss`, `pgvector`, …; of another one, its own."""
    known: dict[str, str] = settings.ENGINES
    return known.get(name, name)


def engine_name(path: str) -> str:
    """What people call the engine with that dotted path."""
    return next((name for name, known in settings.ENGINES.items() if known == path), path)


def get_engine(backend: str | None = None) -> type[VectorIndex]:
    """The class of that name or path, or of the settings'. Raises ImproperlyConfigured where it cannot be had."""
    path = engine_path(backend or settings.SIMILARITY["INDEX"]["BACKEND"])
    try:
        engine: type[VectorIndex] = import_string(path)
    except ImportError as error:
        needs = NEEDS.get((error.name or "").partition(".")[0])
        mend = f". Run: pip install -r {needs}" if needs else ""
        raise ImproperlyConfigured(
            f"SIMILARITY['INDEX']['BACKEND'] (VITRINE_ENGINE) is {path}: {error}{mend}"
        ) from error
    return engine

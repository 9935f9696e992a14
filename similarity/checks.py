"""System checks: what an operator can get wrong, said before a visitor meets it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from similarity.builds import BuildError, NoBuild, builds_dir, current_manifest, repair
from similarity.embedders import get_embedder
from similarity.indexes import engine_name, get_engine


@register("similarity", deploy=True)  # imports FAISS, which every command would wait for
def check_engines(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Engines that the settings name can be had. Those of "*" are made with a name that loads nothing."""
    messages: list[CheckMessage] = []
    for name in settings.SIMILARITY["EMBEDDERS"]:
        try:
            get_embedder(name)
        except ImproperlyConfigured as error:
            hint = (
                "Name a class that is there, with options that it has, and install what it imports (requirements.txt)."
            )
            messages.append(Error(str(error), hint=hint, id="similarity.E001"))
    try:
        get_engine()
    except ImproperlyConfigured as error:
        known = ", ".join(settings.ENGINES)
        hint = f"Let VITRINE_ENGINE be {known} or a class that is there, and install what it imports."
        messages.append(Error(str(error), hint=hint, id="similarity.E002"))
    return messages


@register("similarity")
def check_where_looks_lie(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """An engine whose looks lie on a server is told where that is. Nobody is asked whether it answers: /readyz does."""
    index = settings.SIMILARITY["INDEX"]
    engine = engine_name(index["BACKEND"])
    if engine == "milvus" and not index["MILVUS"]["URI"]:
        said = "VITRINE_ENGINE=milvus does not say where Milvus is."
        return [Error(said, hint="Set VITRINE_MILVUS to its address, as http://127.0.0.1:19530.", id="similarity.E003")]
    if (
        engine == "pgvector"
        and (vendor := connections[index.get("DATABASE") or DEFAULT_DB_ALIAS].vendor) != "postgresql"
    ):
        said = f"VITRINE_ENGINE=pgvector keeps looks in PostgreSQL, and the settings name {vendor}."
        hint = "Let VITRINE_VECTORS_URL, or DATABASE_URL, name a PostgreSQL with pgvector: postgres://…"
        return [Error(said, hint=hint, id="similarity.E004")]
    return []


@register("similarity")
def check_share(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A folder of a network that is not mounted would be made here, and nobody else would find a build in it."""
    storage = settings.STORAGES.get("builds", {"BACKEND": ""})
    if not storage["BACKEND"].endswith(".FileSystemStorage") or Path(share := storage["OPTIONS"]["location"]).is_dir():
        return []
    hint = f"Mount it, or make it once: mkdir {shlex.quote(str(share))}"
    return [Warning(f"VITRINE_SHARE names {share}, which is no folder.", hint=hint, id="similarity.W002")]


@register("similarity")
def check_published_build(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The published build is there and has its files in their sizes; reading it all is left to whoever serves."""
    try:
        manifest = current_manifest()
    except NoBuild:
        return []  # a fresh installation; pages and admin say so
    except BuildError as error:
        return [Warning(str(error), hint=repair(), id="similarity.W001")]
    for name, expected in manifest.files.items():
        path = builds_dir() / manifest.id / name
        if not path.is_file() or path.stat().st_size != expected["size"]:
            return [
                Warning(
                    f"{path} is missing or not the file that its manifest describes.",
                    hint=repair(),
                    id="similarity.W001",
                )
            ]
    return []

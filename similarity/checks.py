"""System checks: what an operator can get wrong, said before a visitor meets it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from similarity.builds import BuildError, NoBuild, builds_dir, current_manifest
from similarity.embedders import get_embedder
from similarity.indexes import get_engine


@register("similarity", deploy=True)  # imports FAISS, which every command would wait for
def check_engines(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Engines that the settings name can be had. Those of "*" are made with a name that loads nothing."""
    messages: list[CheckMessage] = []
    for name in settings.SIMILARITY["EMBEDDERS"]:
        try:
            get_embedder(name)
        except ImproperlyConfigured as error:
            messages.append(Error(str(error), id="similarity.E001"))
    try:
        get_engine()
    except ImproperlyConfigured as error:
        messages.append(Error(str(error), id="similarity.E002"))
    return messages


@register("similarity")
def check_published_build(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The published build is there and has its files in their sizes; reading it all is left to whoever serves."""
    try:
        manifest = current_manifest()
    except NoBuild:
        return []  # a fresh installation; pages and admin say so
    except BuildError as error:
        return [Warning(str(error), id="similarity.W001")]
    for name, expected in manifest.files.items():
        path = builds_dir() / manifest.id / name
        if not path.is_file() or path.stat().st_size != expected["size"]:
            return [
                Warning(
                    f"{path} is missing or not the file that its manifest describes.",
                    hint="Run: python manage.py build_index",
                    id="similarity.W001",
                )
            ]
    return []

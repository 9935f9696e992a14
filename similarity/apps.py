from typing import Any

from django.apps import AppConfig


class SimilarityConfig(AppConfig):
    name = "similarity"
    verbose_name = "Similarity"

    def ready(self) -> None:
        from catalog.signals import pictures_changed
        from similarity import checks  # noqa: F401  (registers them)

        pictures_changed.connect(_embed_soon, dispatch_uid="similarity.embed_soon")


def _embed_soon(**_: Any) -> None:
    from similarity.tasks import embed_soon

    embed_soon()

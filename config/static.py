"""Static files: hashed names and far-future caching once collected, plain names until then."""

from typing import Any

from django.conf import settings
from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedWhenCollectedStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped there
    """WhiteNoise's manifest storage that serves a file by its plain name while it has no hashed one.

    Django's own raises on every page of an installation where nobody has run `collectstatic`; there
    WhiteNoise serves the files from where they lie (`WHITENOISE_USE_FINDERS`).
    """

    manifest_strict = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._addresses: dict[str, str] = {}

    def url(self, name: str, force: bool = False) -> str:
        """Each worked out once: a page names a dozen, and the manifest is read when a process begins."""
        if settings.DEBUG or force:
            return str(super().url(name, force))
        if name not in self._addresses:
            self._addresses[name] = str(super().url(name))
        return self._addresses[name]

    def hashed_name(self, name: str, content: Any = None, filename: str | None = None) -> str:
        try:
            return str(super().hashed_name(name, content, filename))
        except ValueError:
            return name

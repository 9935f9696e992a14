"""Static files: hashed names and far-future caching once collected, plain names until then."""

from typing import Any

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedWhenCollectedStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped there
    """WhiteNoise's manifest storage that serves a file by its plain name while it has no hashed one.

    Django's own raises on every page of an installation where nobody has run `collectstatic`; there
    WhiteNoise serves the files from where they lie (`WHITENOISE_USE_FINDERS`).
    """

    manifest_strict = False

    def hashed_name(self, name: str, content: Any = None, filename: str | None = None) -> str:
        try:
            return str(super().hashed_name(name, content, filename))
        except ValueError:
            return name

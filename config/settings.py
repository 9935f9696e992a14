"""Settings of Vitrine, read from the environment; README.md lists every variable (a test compares)."""

import os
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
env.read_env(str(BASE_DIR / ".env"), recurse=False)


def _kept_secret_key(data_dir: Path) -> str:
    """The key made for this installation, kept beside its data and readable by its owner only."""
    path = data_dir / "secret_key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or not path.read_text().strip():
            with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=".secret_key-") as file:  # for its owner only
                file.write(secrets.token_urlsafe(50))
                file.flush()
                os.fsync(file.fileno())
                if path.is_file() and not path.read_text().strip():
                    path.unlink(missing_ok=True)
                with suppress(FileExistsError):  # another process was first: its key counts
                    path.hardlink_to(file.name)
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"VITRINE_DATA_DIR={data_dir} cannot be used: {error}") from error


# --- what an operator sets -------------------------------------------------------------------
# Everything the program writes (database, pictures, embeddings, builds) lies under this folder.
DATA_DIR = (BASE_DIR / env.str("VITRINE_DATA_DIR", "var")).resolve()
DEBUG: bool = env.bool("DJANGO_DEBUG", False)
SECRET_KEY: str = env.str("DJANGO_SECRET_KEY", "") or _kept_secret_key(DATA_DIR)
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])

DATABASES: dict[str, Any] = {
    "default": env.dj_db_url("DATABASE_URL", f"sqlite:///{DATA_DIR / 'vitrine.sqlite3'}", conn_max_age=60)
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Write-ahead logging lets pages be read while an import writes; IMMEDIATE takes the write lock
    # when a transaction begins, where SQLite honours the busy timeout, instead of in its middle,
    # where it cannot wait (https://www.sqlite.org/isolation.html).
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }

SIMILARITY: dict[str, Any] = {
    # Which model `build_index` uses. Empty: that of the published build, or DEFAULT_MODEL before the first.
    "MODEL": env.str("VITRINE_MODEL", ""),
    "DEFAULT_MODEL": "facebook/dinov2-small",
    # A model's name → how it is made. A name that is not here is a Hub id or a folder, made as "*" says.
    "EMBEDDERS": {
        "efficientnet-lite0": {"BACKEND": "similarity.embedders.efficientnet.EfficientNetEmbedder"},
        "colour": {"BACKEND": "similarity.embedders.colour.ColourEmbedder"},
        "*": {
            "BACKEND": "similarity.embedders.transformers.TransformersEmbedder",
            "OPTIONS": {
                "pooling": env.str("VITRINE_POOLING", "mean"),
                "revision": env.str("VITRINE_MODEL_REVISION", "") or None,
            },
        },
    },
    # What runs networks (auto, torch, openvino), in which numbers (auto, float32, bfloat16, int8).
    "RUNTIME": {"NAME": env.str("VITRINE_RUNTIME", "auto"), "PRECISION": env.str("VITRINE_PRECISION", "auto")},
    # `auto`: exact for small catalogues, a graph for large ones; else a factory string of FAISS: Flat, HNSW32,Flat, …
    # MEMORY_MIB: what an index may take before a compact one is chosen. None: half of what is free.
    "INDEX": {
        "BACKEND": "similarity.indexes.faiss.FaissIndex",
        "FACTORY": env.str("VITRINE_INDEX", "auto"),
        "MEMORY_MIB": env.int("VITRINE_INDEX_MEMORY", None),
    },
    # The share of an index's looks that may be younger than it before somebody is told to build again; and whether a
    # worker then does so by itself.
    "REBUILD": {"SHARE": env.float("VITRINE_REBUILD_SHARE", 0.1), "AUTO": env.bool("VITRINE_REBUILD_AUTO", False)},
    # The default mix: how much each part of a look weighs.
    "MIX": {"style": 0.3, "kind": 1.2, "colour": 0.8},
    "SPACES_DIR": DATA_DIR / "spaces",
    "BUILDS_DIR": DATA_DIR / "builds",
    "MAPS_DIR": DATA_DIR / "maps",
}
# What knows regions of the catalogue, for `?area=`: a function from the address's text to a `catalog.areas.Area`.
CATALOGUE_AREAS = "similarity.maps.serving.area_of"

# Whether pictures that visitors search with may come from addresses. "private" opens private networks, for trials only.
FETCH: str = env.str("VITRINE_FETCH", "public")
if FETCH not in ("public", "off", "private"):
    raise ImproperlyConfigured(f"VITRINE_FETCH={FETCH!r} is none of public, off, private.")
# How often one client may ask: `picture` for searches with pictures, which cost a network's work; `fetch` for those
# that have us fetch one; `api` for everything under /api/.
THROTTLES: dict[str, str | None] = {"picture": "120/min", "fetch": "10/min", "api": None}
_throttle: str = env.str("VITRINE_THROTTLE", "")
if _throttle == "off":
    THROTTLES = dict.fromkeys(THROTTLES)
else:
    for _each in filter(None, map(str.strip, _throttle.split(","))):
        _scope, _, _rate = _each.partition("=")
        if _scope not in THROTTLES or not re.fullmatch(r"[1-9][0-9]*/(s|sec|min|h|hour|day)", _rate):
            raise ImproperlyConfigured(
                f"VITRINE_THROTTLE={_throttle!r}: {_each!r} is not as picture=120/min (or fetch=, api=; "
                "/s, /min, /hour or /day). VITRINE_THROTTLE=off lets everybody ask as often as they like."
            )
        THROTTLES[_scope] = _rate
# How many proxies of our own stand in front, each of which adds to X-Forwarded-For: who a client is depends on it.
PROXIES: int = env.int("VITRINE_PROXIES", 0)

# --- the application -------------------------------------------------------------------------
INSTALLED_APPS = [
    "similarity",
    "catalog",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sitemaps",
    "django.contrib.staticfiles",
    "django_filters",
    "django_htmx",
    "import_export",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "django_tasks",
    "django_tasks_db",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("pt-br", "Português (Brasil)")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_URL = "media/"
MEDIA_ROOT = DATA_DIR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.static.HashedWhenCollectedStorage"},
}
# Styles are right from the first start, also before anybody has run collectstatic.
WHITENOISE_USE_FINDERS = True

# --- the browser's fences --------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
# A picture is at most 10 MiB (catalog.images checks it); the form around it is small.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

# --- work in the background (`manage.py worker`) ------------------------------------------------
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

# --- the API ---------------------------------------------------------------------------------
REST_FRAMEWORK = {
    # Everything here is for everybody to read: no session is opened. Who writes has a key (`catalog.api_keys`).
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "catalog.pagination.CursorPages",
    "EXCEPTION_HANDLER": "catalog.api_errors.handle",
    "DEFAULT_PARSER_CLASSES": ["catalog.api_parsers.SafeJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "catalog.api_schema.ApiSchema",
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.NamespaceVersioning",
    "DEFAULT_VERSION": "v1",
    "ALLOWED_VERSIONS": ["v1"],
    "DEFAULT_THROTTLE_CLASSES": ["catalog.throttles.ApiThrottle"],
    "DEFAULT_THROTTLE_RATES": THROTTLES,
    # Without proxies in front, X-Forwarded-For is whatever a client says of itself.
    "NUM_PROXIES": PROXIES,
}
# Which pages of other origins may ask the API, for the panel that they embed. It knows no cookies.
_origins: list[str] = env.list("VITRINE_CORS_ORIGINS", [])
CORS_ALLOW_ALL_ORIGINS = "*" in _origins
CORS_ALLOWED_ORIGINS = [origin for origin in _origins if origin != "*"]
CORS_URLS_REGEX = r"^/api/v1/"
CORS_ALLOW_HEADERS = [*default_headers, "if-match", "if-none-match"]
CORS_EXPOSE_HEADERS = ["ETag", "Location", "Retry-After"]

SPECTACULAR_SETTINGS = {
    "TITLE": "Vitrine",
    "DESCRIPTION": "The catalogue's products and the products that look like them.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "catalog.api_schema.add_components"],
}

# --- logs ------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        # Django's own default mails errors to administrators, which nobody may have named, and logs none.
        "django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "catalog": {"level": "INFO"},
        "similarity": {"level": "INFO"},
    },
}

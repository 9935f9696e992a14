"""Settings of Vitrine, read from the environment; README.md lists every variable (a test compares)."""

import os
import re
import secrets
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env
from whitenoise.compress import Compressor

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
env.read_env(str(BASE_DIR / ".env"), recurse=False)


def _made(data_dir: Path) -> Path:
    """The folder, there from now on: SQLite makes a database and no folder."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"VITRINE_DATA_DIR={data_dir} cannot be used: {error}") from error
    return data_dir


def _kept_secret_key(data_dir: Path) -> str:
    """The key made for this installation, kept beside its data and readable by its owner only."""
    path = data_dir / "secret_key"
    try:
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
DATA_DIR = _made((BASE_DIR / env.str("VITRINE_DATA_DIR", "var")).resolve())
DEBUG: bool = env.bool("DJANGO_DEBUG", False)
SECRET_KEY: str = env.str("DJANGO_SECRET_KEY", "") or _kept_secret_key(DATA_DIR)
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS", []) or ["localhost", "127.0.0.1", "[::1]"]
# With DEBUG off, no server starts before these are set (config.production); commands do.
NOT_SET = [name for name in ("DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS") if not env.str(name, "").strip()]

# Connections are kept for a minute, and one that broke is noticed before a request needs it.
KEPT: dict[str, Any] = {"conn_max_age": 60, "conn_health_checks": True}
DATABASES: dict[str, Any] = {
    "default": env.dj_db_url(
        "DATABASE_URL", f"sqlite:///{DATA_DIR / 'vitrine.sqlite3'}", conn_max_age=60, conn_health_checks=True
    )
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

# A copy that follows it, for pages and API to read from (config.replica).
if env.str("DATABASE_REPLICA_URL", ""):
    DATABASES["replica"] = env.dj_db_url("DATABASE_REPLICA_URL", **KEPT)
    DATABASES["replica"]["TEST"] = {"MIRROR": "default"}
    DATABASE_ROUTERS = ["config.replica.ReplicaRouter"]

# Where looks lie by pgvector, if not in the database of the catalogue.
if _vectors := env.str("VITRINE_VECTORS_URL", ""):
    DATABASES["vectors"] = env.dj_db_url("VITRINE_VECTORS_URL", **KEPT)
# A host that vanishes (power, network) resets no connection, and the system would wait for its answer for a quarter of
# an hour. What stays unacknowledged for five seconds ends the connection, and so does a host that is silent for seven.
# The catalogue's own has twenty: without it nothing goes, and an import should outlive a disk that stalls.
# What an address says itself holds (…?tcp_user_timeout=60000; https://www.postgresql.org/docs/current/libpq-connect.html).
NOTICED: dict[str, int] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}
for _name, _database in DATABASES.items():
    if _database["ENGINE"].endswith("postgresql"):
        # The replica is asked by a visitor, who could be answered from the primary meanwhile.
        _own = {"replica": {"connect_timeout": 2}, "default": {"tcp_user_timeout": 20_000}}
        _patience = NOTICED | _own.get(_name, {})
        _database["OPTIONS"] = _patience | _database.get("OPTIONS", {})

# What finds neighbours, by the names that people type; another engine by its dotted path.
ENGINES = {
    "faiss": "similarity.indexes.faiss.FaissIndex",
    "exact": "similarity.indexes.exact.ExactIndex",
    "pgvector": "similarity.indexes.pgvector.PgVectorIndex",
    "milvus": "similarity.indexes.milvus.MilvusIndex",
}
_engine: str = env.str("VITRINE_ENGINE", "") or "faiss"
if _engine not in ENGINES and "." not in _engine:
    raise ImproperlyConfigured(f"VITRINE_ENGINE={_engine!r} is none of {', '.join(ENGINES)}, and no dotted path.")

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
    # DATABASE: where pgvector's looks lie, by its name in DATABASES. MILVUS: address and token of that server.
    "INDEX": {
        "BACKEND": ENGINES.get(_engine, _engine),
        "FACTORY": env.str("VITRINE_INDEX", "auto"),
        "MEMORY_MIB": env.int("VITRINE_INDEX_MEMORY", None),
        "DATABASE": "vectors" if "vectors" in DATABASES else "default",
        "MILVUS": {"URI": env.str("VITRINE_MILVUS", ""), "TOKEN": env.str("VITRINE_MILVUS_TOKEN", "")},
    },
    # The share of an index's looks that may be younger than it before somebody is told to build again; and whether a
    # worker then does so by itself.
    "REBUILD": {"SHARE": env.float("VITRINE_REBUILD_SHARE", 0.1), "AUTO": env.bool("VITRINE_REBUILD_AUTO", False)},
    # Embedding on many machines (build_index --runner ray). ACTORS: how many embed at once; None: one for each GPU that
    # is asked for, or for each node. GPUS: what each has; a share of one lets several have it.
    "RAY": {"ACTORS": env.int("VITRINE_RAY_ACTORS", None), "GPUS": env.float("VITRINE_RAY_GPUS", 0.0)},
    # The default mix: how much each part of a look weighs.
    "MIX": {"style": 0.3, "kind": 1.2, "colour": 0.8},
    "SPACES_DIR": DATA_DIR / "spaces",
    "CONVERTED_DIR": DATA_DIR / "spaces" / "converted",  # networks as the runtime wants them, made when first used
    "BUILDS_DIR": DATA_DIR / "builds",
    "MAPS_DIR": DATA_DIR / "maps",
}
# What knows regions of the catalogue, for `?area=`: a function from the address's text to a `catalog.areas.Area`.
CATALOGUE_AREAS = "similarity.maps.serving.area_of"

# Whether pictures that visitors search with may come from addresses. "private" opens private networks, for trials only.
FETCH: str = env.str("VITRINE_FETCH", "public")
if FETCH not in ("public", "off", "private"):
    raise ImproperlyConfigured(f"VITRINE_FETCH={FETCH!r} is none of public, off, private.")
# Where imports may fetch pictures from: the public internet, or private networks too; and only the hosts named, if any.
IMPORT_FETCH: str = env.str("VITRINE_IMPORT_FETCH", "public")
if IMPORT_FETCH not in ("public", "private"):
    raise ImproperlyConfigured(f"VITRINE_IMPORT_FETCH={IMPORT_FETCH!r} is neither public nor private.")
_hosts: list[str] = env.list("VITRINE_IMPORT_HOSTS", [])
IMPORT_HOSTS = [host.strip(". ").lower() for host in _hosts]
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

# Whether visitors come by https: cookies are then sent by that alone, and who comes by http is led there. Behind a
# proxy that says which in X-Forwarded-Proto.
HTTPS: bool = env.bool("VITRINE_HTTPS", False)
# What Strict-Transport-Security says: seconds, and "includeSubDomains" and "preload" where that is meant.
_hsts: str = env.str("VITRINE_HSTS", "")
if not re.fullmatch(r"(?i)(\d+(\s*;\s*(includeSubDomains|preload))*)?", _hsts.strip()):
    raise ImproperlyConfigured(f"VITRINE_HSTS={_hsts!r} is not as 3600 or 31536000; includeSubDomains; preload.")
# Who may see /metrics: this machine alone, everybody, or nobody.
METRICS: str = env.str("VITRINE_METRICS", "local")
if METRICS not in ("local", "open", "off"):
    raise ImproperlyConfigured(f"VITRINE_METRICS={METRICS!r} is none of local, open, off.")
# How lines are logged: plain ones, or JSON with the request's id, method, path, status and time.
LOG_FORMAT: str = env.str("VITRINE_LOG", "plain")
if LOG_FORMAT not in ("plain", "json"):
    raise ImproperlyConfigured(f"VITRINE_LOG={LOG_FORMAT!r} is neither plain nor json.")

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
    "axes",
    "django_prometheus",
    "django_tasks",
    "django_tasks_db",
]

MIDDLEWARE = [
    "config.request_id.RequestIdMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "config.replica.ReplicaMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "config.watching.HostMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    "catalog.no_room.NoRoomMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
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

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Ten wrong passwords for a name from an address close the login to both together for a quarter of an hour: a stranger
# cannot lock the shop's own people out from elsewhere, and guesses forty passwords an hour.
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "catalog.throttles.client_address"
AXES_LOCKOUT_CALLABLE = "catalog.throttles.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

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
STORAGES: dict[str, Any] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.static.HashedWhenCollectedStorage"},
}
# Where the machine that builds puts its builds for those that fetch them: a folder, or an object store.
if _share := env.str("VITRINE_SHARE", ""):
    if _share.startswith("s3://"):
        _bucket, _, _folder = _share.removeprefix("s3://").partition("/")
        STORAGES["builds"] = {
            "BACKEND": "storages.backends.s3.S3Storage",  # pip install "django-storages[s3]"
            "OPTIONS": {"bucket_name": _bucket, "location": _folder, "file_overwrite": True},
        }
    else:
        STORAGES["builds"] = {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": _share, "allow_overwrite": True},
        }
# Styles are right from the first start, also before anybody has run collectstatic.
WHITENOISE_USE_FINDERS = True
# Maps of other people's scripts are read by nobody but their developers: compressing them took half of the time.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (*Compressor.SKIP_COMPRESS_EXTENSIONS, "map")

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
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]  # asked from this machine, by http
SECURE_HSTS_SECONDS = int(_hsts.split(";")[0] or 0) if _hsts.strip() else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = "includesubdomains" in _hsts.lower()
SECURE_HSTS_PRELOAD = "preload" in _hsts.lower()
if PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# What else stands on the domain, and whether browsers shall know for ever, an operator decides and no check.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# A catalogue needs none of what a browser could lend it.
PERMISSIONS_POLICY: dict[str, list[str]] = {
    name: []
    for name in (
        *("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer", "microphone"),
        *("midi", "payment", "screen-wake-lock", "usb", "xr-spatial-tracking"),
    )
}
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
    "filters": {
        "request_id": {"()": "config.request_id.RequestIdFilter"},
        "without_traceback": {"()": "config.request_id.WithoutTraceback"},
    },
    "formatters": {
        "plain": {"format": "{asctime} {levelname} {name} [{request_id}]: {message}", "style": "{"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "{asctime}{levelname}{name}{request_id}{message}",
            "style": "{",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["request_id"]}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        # Django's own default mails errors to administrators, which nobody may have named, and logs none.
        "django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "django.security.DisallowedHost": {
            "handlers": ["stderr"],
            "filters": ["without_traceback"],
            "propagate": False,
        },
        # One line a request, where a machine reads them; the server in front has them already otherwise.
        "vitrine.requests": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
        "catalog": {"level": "INFO"},
        "similarity": {"level": "INFO"},
    },
}

"""A disk that is full: what visitors, programs and operators are told, and nothing is lost."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext

from catalog.api_errors import answer, is_of_the_api
from catalog.files import free_bytes, nearest
from catalog.metrics import refused

logger = logging.getLogger(__name__)

STATUS = 507
_TO_OPEN_BYTES = 64 * 1024
"""What SQLite's shared memory beside a database takes when nobody has it open (https://www.sqlite.org/wal.html)."""
_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_no_room(error: BaseException) -> bool:
    """Whether a full disk is behind it, or an exhausted quota: the system says so, or SQLite, or NumPy, whose writing
    stops in the middle and says how far it came. SQLite also finds no room for the files it needs to open a database,
    and then says that it cannot open it.
    """
    for each in _behind(error):
        if isinstance(each, OSError) and (each.errno in _ERRNOS or "requested and" in str(each)):
            return True
        if isinstance(each, DatabaseError) and ("disk is full" in str(each) or free_bytes(_data()) < _TO_OPEN_BYTES):
            return True
    return False


def sentence(error: BaseException) -> str:
    """What an operator can do about it."""
    named = [each.filename for each in _behind(error) if isinstance(each, OSError) and each.filename]
    # Where nobody says which file it was: the fullest disk of those that are written to.
    folder = nearest(Path(named[0])) if named else min(map(nearest, _written_to()), key=free_bytes)
    return (
        f"The disk that holds {folder} is full ({free_bytes(folder) / 2**20:.1f} MiB are free). "
        "What was finished is kept: make room, and run the same command again."
    )


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _data() -> Path:
    return Path(settings.DATA_DIR)


def _written_to() -> list[Path]:
    kept = (settings.SIMILARITY[name] for name in ("SPACES_DIR", "BUILDS_DIR", "MAPS_DIR"))
    return [_data(), *map(Path, (settings.MEDIA_ROOT, *kept, tempfile.gettempdir()))]


class NoRoomMiddleware:
    """Answers 507 (RFC 4918) where a request could not be carried out because the disk is full."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not is_no_room(exception):
            return None
        logger.error("%s could not be answered: %s", request.path, sentence(exception))
        refused("request", "no_room")
        if is_of_the_api(request):
            return answer(request, STATUS, "no_room", gettext("The shop's disk is full: nothing was changed."))
        return render(request, "507.html", status=STATUS)

"""Reading the bodies of requests.

In a file of its own: Django REST framework reads it while its views are still being imported.
"""

from __future__ import annotations

from typing import IO, Any

from django.utils.translation import gettext
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class SafeJSONParser(JSONParser):
    """JSON whose nesting may not exhaust Python's stack."""

    def parse(self, stream: IO[Any], media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError(gettext("The JSON is nested too deeply.")) from error

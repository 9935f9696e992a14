"""Fields that take from JSON what the document says and nothing that could be turned into it.

In an address or a form everything is text, so there "true" is true and "5" is 5.
"""

from __future__ import annotations

import math
from typing import Any

from django.http import QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


def _is_text_only(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    return isinstance(getattr(field.root, "initial_data", None), QueryDict)


class Text(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field(OpenApiTypes.BOOL)
class Flag(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool) and not _is_text_only(self):
            self.fail("invalid", input=data)
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, (bool, str)) and not _is_text_only(self):
            self.fail("invalid")
        return super().to_internal_value(data)


class Number(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, (bool, str)) and not _is_text_only(self):
            self.fail("invalid")
        number = super().to_internal_value(data)
        if not math.isfinite(number):  # which no limit holds back
            self.fail("invalid")
        return number

"""Why two products are alike, over HTTP."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.http import Http404, HttpResponseBase
from django.utils.cache import get_conditional_response
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.api_caching import Cacheable
from similarity.api import PRODUCT_ID, MixSerializer, errors_as_http
from similarity.explaining import heat_maps_of
from similarity.products import Product, get_product
from similarity.services import Answer, compare, live_index


class HeatMapSerializer(serializers.Serializer[Any]):
    heat = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(min_value=0, max_value=1)),
        help_text="How well each region is met by some region of the other picture, line by line from the top.",
    )
    box = serializers.ListField(
        child=serializers.FloatField(),
        min_length=4,
        max_length=4,
        help_text="What of the picture the regions divide evenly: left, top, right, bottom, as fractions of its sides.",
    )
    thumbnail = serializers.CharField()
    image = serializers.CharField()


class ExplanationSerializer(serializers.Serializer[Any]):
    product_id = serializers.CharField()
    other_id = serializers.CharField()
    score = serializers.FloatField(help_text="At most 1; the sum of the parts.")
    mix = serializers.DictField(child=serializers.FloatField())
    missing_parts = serializers.ListField(child=serializers.CharField())
    parts = serializers.DictField(child=serializers.FloatField(), help_text="What each part adds to the score.")
    same = serializers.ListField(child=serializers.CharField(), help_text="Labels on which they agree.")
    different = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField(), min_length=2, max_length=2),
        help_text="Labels on which they do not: the product's value, and the other's.",
    )
    product = HeatMapSerializer()
    other = HeatMapSerializer()


class ExplainView(Cacheable):
    """Why two products are alike: what each part adds to their score, and where their pictures match.

    The heat maps show what the network sees, whatever the mix; `kind` and `colour` have none. Answers carry an ETag,
    and are worked out again only when a product, its picture or the index has changed.
    """

    @extend_schema(
        operation_id="products_explain",
        summary="Why two products are alike",
        tags=["similarity"],
        parameters=[
            PRODUCT_ID,
            OpenApiParameter(
                "other_id",
                OpenApiTypes.STR,
                OpenApiParameter.PATH,
                description="The other product's.",
                examples=[OpenApiExample("Another product", "34009")],
            ),
            MixSerializer,
        ],
        responses={
            200: ExplanationSerializer,
            404: None,
            409: None,
            503: None,
        },
    )
    def get(self, request: Request, product_id: str, other_id: str) -> HttpResponseBase:
        question = MixSerializer(data=request.query_params)
        question.is_valid(raise_exception=True)
        product, other = (_visible(wanted) for wanted in (product_id, other_id))
        with errors_as_http():
            body = _to_json(compare(product, other, **question.validated_data))
            etag = _etag(body, product, other)
            # The network is not asked where the answer is known.
            response = get_conditional_response(request._request, etag)
            if response is None:
                maps = heat_maps_of(product, other)
                body |= {name: each.to_json() for name, each in zip(("product", "other"), maps, strict=True)}
                response = Response(body)
        response["ETag"] = etag
        return response


def _to_json(answer: Answer) -> dict[str, Any]:
    """The match of `compare`, without what says where."""
    known = answer.to_json()
    (match,) = known["matches"]
    return {
        "product_id": known["product_id"],
        "other_id": match["product_id"],
        **{name: match[name] for name in ("score", "parts", "same", "different")},
        **{name: known[name] for name in ("mix", "missing_parts")},
    }


def _etag(body: dict[str, Any], *pictured: Product) -> str:
    """Of all that an answer depends on: what was compared, the pictures, the index with its model."""
    of = [body, [product.image_sha256 for product in pictured], live_index().build.manifest.id]
    return f'"{hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:32]}"'


def _visible(product_id: str) -> Product:
    product = get_product(product_id)
    if product is None or not product.is_visible:
        raise Http404
    return product

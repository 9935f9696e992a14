"""Similarity over HTTP: thin views over `similarity.services`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import Http404
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import fetching
from catalog.api_caching import ASK_AGAIN_S, Cacheable
from catalog.api_errors import Conflict
from catalog.api_fields import Flag, Number, Text, Whole
from catalog.api_parsers import SafeJSONParser
from catalog.filters import SEARCH_MAX_LENGTH, VALUE_MAX_LENGTH
from catalog.images import ImageError
from catalog.throttles import ApiThrottle
from similarity import products, queries
from similarity.cropping import CropBox, CropError
from similarity.mix import MixError, parse_mix
from similarity.refining import CALIBRATED, Refinement, parse_min_score
from similarity.services import (
    DEFAULT_K,
    MAX_K,
    MAX_SEVERAL,
    NothingToCompare,
    SimilarityUnavailable,
    index_status,
    similar_to,
    similar_to_image,
    similar_to_several,
)
from similarity.throttles import FetchThrottle, PictureThrottle

RECIPE_K = 3


class ServiceUnavailable(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("Similarity is not available right now.")
    default_code = "unavailable"

    def __init__(self, reason: str) -> None:
        """`reason`: what is wrong and what repairs it, for whoever runs the shop."""
        super().__init__()
        self.reason = reason


class MatchSerializer(serializers.Serializer[Any]):
    product_id = serializers.CharField()
    score = serializers.FloatField(
        allow_null=True,
        help_text="At most 1; the sum of the parts. Null for a pinned product that cannot be compared yet.",
    )
    parts = serializers.DictField(child=serializers.FloatField(), help_text="What each part adds to the score.")
    same = serializers.ListField(
        child=serializers.CharField(), help_text="Labels on which it agrees with the product asked for."
    )
    different = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField(), min_length=2, max_length=2),
        help_text="Labels on which it does not: the product's own value, and the match's.",
    )
    more = serializers.IntegerField(
        help_text="Further products with the same or nearly the same picture, where these are collapsed."
    )
    pinned = serializers.BooleanField(help_text="Whether the shop has chosen it; such matches stand first.")
    title = serializers.CharField()
    url = serializers.CharField()
    thumbnail = serializers.CharField(allow_null=True)


class RelaxedSerializer(serializers.Serializer[Any]):
    """A wish that gave in, as too few products fulfil it."""

    wish = serializers.CharField(help_text="The label.")
    wanted = serializers.ListField(child=serializers.CharField())
    to = serializers.ChoiceField(["related", "any"], help_text="Which other values may stand in.")


class PlanSerializer(serializers.Serializer[Any]):
    """How the index was asked once."""

    how = serializers.ChoiceField(["graph", "graph-then-filter", "cells", "one-by-one", "range", "everything"])
    why = serializers.CharField()
    selected = serializers.IntegerField(help_text="Looks of the build that might answer.")
    of = serializers.IntegerField(help_text="Looks of the build.")
    looked_at = serializers.IntegerField(help_text="Looks that were compared one by one.")
    instead_of = serializers.CharField(allow_null=True, help_text="What was tried before and found too few.")


class AnswerSerializer(serializers.Serializer[Any]):
    product_id = serializers.CharField(allow_null=True)
    mix = serializers.DictField(child=serializers.FloatField())
    missing_parts = serializers.ListField(child=serializers.CharField())
    relaxed = RelaxedSerializer(many=True, help_text="The wishes that gave in; fuller matches stand first.")
    min_score = serializers.FloatField(allow_null=True, help_text="The cut-off that was applied.")
    matches = MatchSerializer(many=True)
    plan = PlanSerializer(
        many=True,
        required=False,
        help_text="With `explain=plan`: how the index was asked, in order; `graph` is whatever approximate one it is.",
    )


def _values() -> serializers.ListField:
    return serializers.ListField(
        child=Text(max_length=VALUE_MAX_LENGTH),
        required=False,
        help_text="Matches have one of these values; may be given several times.",
    )


@extend_schema_field(OpenApiTypes.STR)
class LabelsField(serializers.Field[tuple[str, ...], str, str, Any]):
    """`gender,category` → ("gender", "category")."""

    def to_internal_value(self, data: str) -> tuple[str, ...]:
        if not isinstance(data, str):
            raise serializers.ValidationError(gettext("Not a valid string."))
        names = tuple(name.strip() for name in data.split(",") if name.strip())
        for name in names:
            if name not in products.LABELS:
                raise serializers.ValidationError(
                    gettext("'%(name)s' is none of %(labels)s.") % {"name": name, "labels": ", ".join(products.LABELS)}
                )
        return names


_REFINED = ("collapse", "diversity", "min_score", "same", "differ", "relax", "words")


class MixSerializer(serializers.Serializer[Any]):
    """How the parts of a look are weighed."""

    mix = Text(
        required=False,
        allow_blank=True,
        max_length=200,
        help_text="Weights of the parts, as `style:1,colour:0.5`; default: the index's own.",
    )

    def validate_mix(self, value: str) -> Any:
        try:
            return parse_mix(value) if value else None
        except MixError as error:
            raise serializers.ValidationError(str(error)) from error


class QuestionSerializer(MixSerializer):
    """How many matches, how the parts of a look are weighed, and what is done to the ranking."""

    k = Whole(min_value=1, max_value=MAX_K, default=DEFAULT_K)
    collapse = Flag(default=False, help_text="Count products with the same or nearly the same picture as one.")
    diversity = Number(
        min_value=0, max_value=1, default=0.0, help_text="How much matches that are like each other give way to others."
    )
    min_score = Text(
        required=False,
        allow_blank=True,
        max_length=30,
        help_text=f"Leave out what scores less; `{CALIBRATED}`: the index's own cut-off for the mix.",
    )
    relax = Flag(
        default=True,
        help_text="Where fewer than k fulfil all wishes, let one after another give in, and say which.",
    )
    q = Text(
        source="words",
        default="",
        allow_blank=True,
        max_length=SEARCH_MAX_LENGTH,
        help_text="Matches are found by this search in words, too.",
    )
    explain = serializers.ChoiceField(
        ["plan"],
        required=False,
        allow_blank=True,
        help_text="Say in the answer how the matches were looked for, and why so.",
    )
    gender, category, sub_category, product_type, colour, usage = (_values() for _ in products.LABELS)

    def validate_min_score(self, value: str) -> float | str | None:
        try:
            return parse_min_score(value) if value else None
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """What is left beside the refinement, and the refinement."""
        only = {label: tuple(values) for label in products.LABELS if (values := attrs.pop(label, ()))}
        refined = {name: attrs.pop(name) for name in _REFINED if name in attrs}
        return {**attrs, "refinement": Refinement(only=only, **refined)}


class ProductQuestionSerializer(QuestionSerializer):
    """What may also be asked where a product's labels are known."""

    same = LabelsField(default=(), help_text="Labels that matches share with what was asked, as `gender,category`.")
    differ = LabelsField(default=(), help_text="Labels on which they differ from it.")


class CuratedQuestionSerializer(ProductQuestionSerializer):
    """What may also be asked of one product's panel."""

    curated = Flag(
        default=True,
        help_text="Begin with the products that the shop has pinned here, and leave out those that it hides here.",
    )


class PictureQuestionSerializer(QuestionSerializer):
    """A picture by its address, or a part of it."""

    url = Text(
        required=False,
        max_length=fetching.MAX_LENGTH,
        help_text="Where the picture is: http or https on the usual port, open to everybody, without redirect.",
    )
    crop = Text(
        default="",
        allow_blank=True,
        max_length=100,
        help_text="The part to search with: left,top,width,height in fractions of the picture, as `0.1,0,0.5,0.5`.",
    )

    def validate_crop(self, value: str) -> CropBox:
        try:
            return CropBox.parse(value)
        except CropError as error:
            raise serializers.ValidationError(str(error)) from error


class UploadQuestionSerializer(PictureQuestionSerializer):
    """A picture as a file or by its address, or a part of it."""

    image = serializers.FileField(
        required=False, help_text="JPEG, PNG, WebP or GIF, at most 10 MiB and 25 megapixels. This or `url`."
    )


def _product_ids(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=Text(max_length=64), max_length=MAX_SEVERAL, **options)


class SeveralQuestionSerializer(ProductQuestionSerializer):
    like = _product_ids(min_length=1, help_text="Product ids.")
    unlike = _product_ids(default=list, help_text="Product ids.")


class IndexStatusSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(["ok", "missing", "broken"])
    products = serializers.IntegerField()
    with_picture = serializers.IntegerField()
    waiting = serializers.IntegerField(help_text="Pictures that wait for build_index.")
    young = serializers.IntegerField(help_text="Looks that are younger than the build and answer beside it.")
    rebuild_due = serializers.BooleanField(help_text="Whether these are so many that building again is worth it.")
    build = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    looks = serializers.IntegerField()
    dimension = serializers.IntegerField(allow_null=True)
    parts = serializers.DictField(child=serializers.FloatField())
    built_at = serializers.DateTimeField(allow_null=True)
    age_s = serializers.IntegerField(allow_null=True)
    near_duplicates = serializers.DictField(
        child=serializers.FloatField(),
        help_text="By part, the cosine from which on two pictures are nearly the same; calibrated on the catalogue.",
    )
    cutoff = serializers.FloatField(allow_null=True, help_text="`min_score=calibrated` under the default mix.")


class RecipeQuestionSerializer(serializers.Serializer[Any]):
    image_path = serializers.CharField(max_length=2000)


class RecipeAnswerSerializer(serializers.Serializer[Any]):
    similar_images = serializers.ListField(child=serializers.CharField())


PRODUCT_ID = OpenApiParameter(
    "product_id",
    OpenApiTypes.STR,
    OpenApiParameter.PATH,
    description="The ProductId of the catalogue's file.",
    examples=[OpenApiExample("A product", "42419")],
)


class SimilarView(Cacheable):
    """The products that look like a product."""

    max_age_s = ASK_AGAIN_S

    @extend_schema(
        operation_id="products_similar",
        summary="Products that look like a product",
        tags=["similarity"],
        parameters=[PRODUCT_ID, CuratedQuestionSerializer],
        responses={200: AnswerSerializer, 404: None, 503: None},
    )
    def get(self, request: Request, product_id: str) -> Response:
        question = CuratedQuestionSerializer(data=request.query_params)
        question.is_valid(raise_exception=True)
        product = products.get_product(product_id)
        if product is None or not product.is_visible:
            raise Http404
        asked = dict(question.validated_data)
        explain = bool(asked.pop("explain", ""))
        return _answer(lambda: similar_to(product, **asked).to_json(explain=explain))


class SeveralView(APIView):
    """The products that look like some products and not like others."""

    @extend_schema(
        operation_id="similar_to_several",
        summary="Products that look like some and not like others",
        tags=["similarity"],
        request=SeveralQuestionSerializer,
        responses={200: AnswerSerializer, 503: None},
        examples=[
            OpenApiExample(
                "Like two, unlike a third", {"like": ["42419", "34009"], "unlike": ["40143"]}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        question = SeveralQuestionSerializer(data=request.data)
        question.is_valid(raise_exception=True)
        asked = dict(question.validated_data)
        known = products.visible_by_id([*asked["like"], *asked["unlike"]])
        for field in ("like", "unlike"):
            if unknown := [product_id for product_id in asked[field] if product_id not in known]:
                said = gettext("There is no product %(id)s.")
                raise ValidationError({field: [said % {"id": product_id} for product_id in unknown]})
            asked[field] = [known[product_id] for product_id in asked[field]]
        explain = bool(asked.pop("explain", ""))
        return _answer(lambda: similar_to_several(**asked).to_json(explain=explain))


class ImageSearchView(APIView):
    """The products that look like a picture that is sent, or that lies at an address."""

    parser_classes = [MultiPartParser, SafeJSONParser]
    throttle_classes = [ApiThrottle, PictureThrottle, FetchThrottle]

    @extend_schema(
        operation_id="search_image",
        summary="Products that look like a picture",
        tags=["similarity"],
        request={"multipart/form-data": UploadQuestionSerializer, "application/json": PictureQuestionSerializer},
        responses={200: AnswerSerializer, 503: None},
    )
    def post(self, request: Request) -> Response:
        question = UploadQuestionSerializer(data=request.data)
        question.is_valid(raise_exception=True)
        asked = dict(question.validated_data)
        upload, address, crop = asked.pop("image", None), asked.pop("url", ""), asked.pop("crop") or CropBox()
        if (upload is None) == (not address):
            raise ValidationError({"image": ["Give one picture: either image or url."]})
        try:
            image = queries.read_given(upload, address)
        except ImageError as error:
            raise ValidationError({"url" if upload is None else "image": [str(error)]}) from error
        explain = bool(asked.pop("explain", ""))
        return _answer(lambda: similar_to_image(crop.of(image), **asked).to_json(explain=explain))


class IndexView(APIView):
    """What the index holds, and what waits for it."""

    @extend_schema(
        operation_id="index", summary="State of the index", tags=["similarity"], responses=IndexStatusSerializer
    )
    def get(self, request: Request) -> Response:
        return Response(index_status().to_json())


class RecipeView(APIView):
    """`POST /get_similar`, as the front end of the plain recipe asks: a picture's address → three addresses.

    The product is looked up, so no picture is fetched or embedded.
    """

    versioning_class = None
    plain_errors = True  # `{"detail": …}`, as its front ends know it

    @extend_schema(
        operation_id="get_similar",
        summary="As the plain recipe's front end asks",
        tags=["similarity"],
        request=RecipeQuestionSerializer,
        responses={200: RecipeAnswerSerializer, 400: OpenApiResponse(description="No image_path."), 404: None},
        examples=[OpenApiExample("A product's ImageURL", value={"image_path": "https://shop.example/42419.jpg"})],
    )
    def post(self, request: Request) -> Response:
        question = RecipeQuestionSerializer(data=request.data)
        question.is_valid(raise_exception=True)
        address = question.validated_data["image_path"]
        product = products.find_by_picture_address(address, _media_name(request, address))
        if product is None:
            raise Http404
        return _answer(
            lambda: {
                "similar_images": [
                    match.product.image_url or request.build_absolute_uri(match.product.image.url)
                    for match in similar_to(product, RECIPE_K).matches
                ]
            }
        )


def _answer(ask: Any) -> Response:
    """The answer, with our errors as HTTP's."""
    with errors_as_http():
        return Response(ask())


@contextmanager
def errors_as_http() -> Iterator[None]:
    """Our errors as the framework's."""
    try:
        yield
    except MixError as error:
        raise ValidationError({"mix": [str(error)]}) from error
    except NothingToCompare as error:
        raise Conflict(str(error)) from error
    except SimilarityUnavailable as error:
        raise ServiceUnavailable(str(error)) from error


def _media_name(request: Request, address: str) -> str | None:
    """`http://this-site/media/images/ab/….jpg`, with or without the host → `images/ab/….jpg`."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.netloc and parts.netloc != request.get_host():
        return None
    prefix = "/" + settings.MEDIA_URL.lstrip("/")
    path = "/" + unquote(parts.path).lstrip("/")
    return path.removeprefix(prefix) if path.startswith(prefix) else None

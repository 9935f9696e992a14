"""The products over HTTP."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    extend_schema_serializer,
    inline_serializer,
)
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.filters import SEARCH_MAX_LENGTH, ProductFilter
from catalog.models import Product
from catalog.pagination import ProductPagination
from catalog.suggestions import Suggestion, did_you_mean, suggest

EXAMPLE = {
    "product_id": "42419",
    "title": "Girls Knit White Top",
    "gender": "Girls",
    "category": "Apparel",
    "sub_category": "Topwear",
    "product_type": "Tops",
    "colour": "White",
    "usage": "Casual",
    "extra": {"Price": "19.90"},
    "image": "https://shop.example/media/images/5e/5e1f….jpg",
    "image_width": 1080,
    "image_height": 1440,
    "thumbnail": "https://shop.example/media/thumbnails/5e/5e1f….webp",
    "image_url": "https://images.example/42419.jpg",
    "url": "https://shop.example/products/42419/",
}


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ExtraField(serializers.JSONField):
    """Columns by name."""


@extend_schema_serializer(examples=[OpenApiExample("A product", EXAMPLE, response_only=True)])
class ProductSerializer(serializers.ModelSerializer[Product]):
    """A product as visitors may see it."""

    extra = ExtraField(read_only=True, help_text="The columns of the file that Vitrine does not know, by name.")
    image = serializers.FileField(
        read_only=True, allow_null=True, help_text="Address of the picture; null where there is none."
    )
    image_width = serializers.IntegerField(read_only=True, help_text="In pixels; 0 without picture.")
    image_height = serializers.IntegerField(read_only=True, help_text="In pixels; 0 without picture.")
    thumbnail = serializers.FileField(
        read_only=True, allow_null=True, help_text="Address of a small WebP of the picture, or null."
    )
    image_url = serializers.CharField(
        read_only=True, help_text="The picture's address as the catalogue's file gave it; may be empty."
    )
    url = serializers.SerializerMethodField(help_text="Address of the product's page.")

    class Meta:
        model = Product
        fields = [*EXAMPLE]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, product: Product) -> str:
        return str(self.context["request"].build_absolute_uri(product.get_absolute_url()))


NOT_FOUND = OpenApiResponse(
    inline_serializer("NotFound", {"detail": serializers.CharField()}),
    description="There is no such product or page.",
)
INVALID = OpenApiResponse(
    {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    description="What is wrong, by the parameter's name.",
)


@extend_schema(
    summary="Find products",
    tags=["products"],
    responses={200: ProductSerializer(many=True), 400: INVALID, 404: NOT_FOUND},
)
class ProductList(generics.ListAPIView[Product]):
    """The products of the catalogue, by the same search, attributes and order as on the site.

    An attribute may be given several times (`colour=Blue&colour=Black`): products with any of its values.
    """

    queryset = Product.objects.visible().defer("source")
    serializer_class = ProductSerializer
    pagination_class = ProductPagination
    filterset_class = ProductFilter


@extend_schema(
    summary="One product",
    tags=["products"],
    parameters=[
        OpenApiParameter(
            "product_id",
            OpenApiTypes.STR,
            OpenApiParameter.PATH,
            description="The ProductId of the catalogue's file.",
        )
    ],
    responses={200: ProductSerializer, 404: NOT_FOUND},
)
class ProductDetail(generics.RetrieveAPIView[Product]):
    """A product by its id. Hidden products are not found."""

    queryset = Product.objects.visible().defer("source")
    serializer_class = ProductSerializer
    lookup_field = "product_id"
    filter_backends = ()


class SuggestQuery(serializers.Serializer[object]):
    q = serializers.CharField(
        max_length=SEARCH_MAX_LENGTH, allow_blank=True, default="", help_text="What has been typed so far."
    )


class SuggestionSerializer(serializers.Serializer[object]):
    kind = serializers.ChoiceField(
        ["value", "words", "product"], help_text="A value of an attribute, a search, or a product."
    )
    text = serializers.CharField()
    attribute = serializers.CharField(help_text="The attribute that has the value; else empty.")
    note = serializers.CharField(help_text="The attribute's name for people; else empty.")
    url = serializers.SerializerMethodField(help_text="Address of the page that shows it.")

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, suggestion: Suggestion) -> str:
        return str(self.context["request"].build_absolute_uri(suggestion.url))


class SuggestView(APIView):
    """Completions of what is being typed: each word begins a word of the suggestion.

    `did_you_mean` is a search with the catalogue's nearest words in place of those it lacks, where there is nothing to
    suggest; else null.
    """

    @extend_schema(
        summary="Complete a search",
        tags=["products"],
        parameters=[SuggestQuery],
        responses={
            200: inline_serializer(
                "Suggestions",
                {
                    "suggestions": SuggestionSerializer(many=True),
                    "did_you_mean": serializers.CharField(allow_null=True),
                },
            ),
            400: INVALID,
        },
    )
    def get(self, request: Request) -> Response:
        query = SuggestQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        text: str = query.validated_data["q"]
        found = suggest(text)
        return Response(
            {
                "suggestions": SuggestionSerializer(found, many=True, context={"request": request}).data,
                "did_you_mean": None if found else did_you_mean(text, Product.objects.visible()),
            }
        )

"""The products over HTTP."""

from __future__ import annotations

from typing import Any, cast

from django.db import transaction
from django.http import Http404, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
    extend_schema_serializer,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import generics, serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from catalog import images
from catalog.api_caching import ASK_AGAIN_S, Cacheable, etag_of
from catalog.api_keys import Keyed, key_of
from catalog.api_parsers import SafeJSONParser
from catalog.api_writing import (
    NewProductSerializer,
    NewProductWithPictureSerializer,
    PictureParser,
    ProductReplacementSerializer,
    change,
    check_conditions,
    check_id,
    create,
    give,
    verified,
)
from catalog.browsing import Browsing
from catalog.facets import counted_facets
from catalog.filters import SEARCH_MAX_LENGTH, SORTS, ProductFilter, Selection
from catalog.models import Product
from catalog.pagination import CursorPages
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
    "hidden": False,
}


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ExtraField(serializers.JSONField):
    """Columns by name."""


def absolute(context: Any, path: str) -> str:
    """A path of this site with its host. The host is worked out once an answer, not three times a product."""
    if "origin" not in context:
        context["origin"] = context["request"].build_absolute_uri("/").rstrip("/")
    return path if "://" in path else f"{context['origin']}{path}"


class PictureField(serializers.FileField):
    """A picture's address."""

    def to_representation(self, value: Any) -> str | None:
        return absolute(self.context, value.url) if value else None


@extend_schema_serializer(examples=[OpenApiExample("A product", EXAMPLE, response_only=True)])
class ProductSerializer(serializers.ModelSerializer[Product]):
    """A product as visitors may see it."""

    extra = ExtraField(read_only=True, help_text="The columns of the file that Vitrine does not know, by name.")
    image = PictureField(read_only=True, allow_null=True, help_text="Address of the picture; null where there is none.")
    image_width = serializers.IntegerField(read_only=True, help_text="In pixels; 0 without picture.")
    image_height = serializers.IntegerField(read_only=True, help_text="In pixels; 0 without picture.")
    thumbnail = PictureField(
        read_only=True, allow_null=True, help_text="Address of a small WebP of the picture, or null."
    )
    image_url = serializers.CharField(
        read_only=True, help_text="The picture's address as the catalogue's file gave it; may be empty."
    )
    url = serializers.SerializerMethodField(help_text="Address of the product's page.")
    hidden = serializers.BooleanField(
        read_only=True, help_text="Whether visitors do not see it; only seen with a key for products."
    )

    class Meta:
        model = Product
        fields = [*EXAMPLE]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, product: Product) -> str:
        return absolute(self.context, product.get_absolute_url())


_ID = OpenApiParameter(
    "product_id",
    OpenApiTypes.STR,
    OpenApiParameter.PATH,
    description="The ProductId of the catalogue's file.",
    examples=[OpenApiExample("A product", EXAMPLE["product_id"])],
)
_SORT = OpenApiParameter(
    "sort",
    OpenApiTypes.STR,
    enum=["", *dict(SORTS)],
    description="The catalogue's own order where it is empty, or not given.",
)
_CREATED = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201], description="Address of what was made."
)
_CONTENT = {
    name: EXAMPLE[name]
    for name in ("title", "gender", "category", "sub_category", "product_type", "colour", "usage", "image_url", "extra")
}
_EXAMPLES_OF_WRITING = [
    OpenApiExample("A new product", {"product_id": "42420", **_CONTENT}, request_only=True),
]


def _answer(request: Request, product: Product, status: int = 200) -> Response:
    """The product as it is now, with the ETag that getting it would give."""
    data = ProductSerializer(product, context={"request": request}).data
    response = Response(data, status, headers={"ETag": etag_of(data)})
    if status == 201:
        response["Location"] = request.build_absolute_uri(reverse("v1:product", args=[product.product_id]))
    return response


@extend_schema_view(
    get=extend_schema(
        operation_id="products_list",
        summary="Find products",
        tags=["products"],
        parameters=[_SORT],
        responses={200: ProductSerializer(many=True), 400: None},
    ),
    post=extend_schema(
        operation_id="products_create",
        summary="Make a product",
        tags=["products"],
        parameters=[_CREATED],
        request={"application/json": NewProductSerializer, "multipart/form-data": NewProductWithPictureSerializer},
        responses={201: ProductSerializer, 409: None},
        examples=_EXAMPLES_OF_WRITING,
    ),
)
class ProductList(Keyed, Cacheable, generics.ListAPIView[Product]):
    """The products of the catalogue, by the same search, attributes and order as on the site.

    An attribute may be given several times (`colour=Blue&colour=Black`): products with any of its values. `next` leads
    on until it is null; products that come or go meanwhile shift nothing.
    """

    queryset = Product.objects.visible().defer("source")
    serializer_class = ProductSerializer
    pagination_class = CursorPages
    filterset_class = ProductFilter
    parser_classes = (SafeJSONParser, MultiPartParser)
    scope = "products"

    def post(self, request: Request) -> Response:
        """A product of its own, not of a file: as JSON, or with its picture as a form.

        The picture can be compared after the next build of the index.
        """
        is_form = isinstance(request.data, QueryDict)
        asked = (NewProductWithPictureSerializer if is_form else NewProductSerializer)(data=request.data)
        asked.is_valid(raise_exception=True)
        product = create(asked.validated_data)
        self.note(request, f"created {product.product_id}")
        return _answer(request, product, 201)


class ProductView(Keyed):
    """One product, got or written."""

    scope = "products"
    has_conditional_writes = True

    def locked(self, request: Request, product_id: str) -> Product:
        """The product, for whoever writes it: held until the transaction ends, and as the request's conditions say."""
        product = Product.objects.select_for_update().filter(product_id=product_id).first()
        if product is None:
            check_conditions(request._request, None)
            raise Http404
        check_conditions(request._request, etag_of(ProductSerializer(product, context={"request": request}).data))
        return product


@extend_schema_view(
    get=extend_schema(
        operation_id="products_retrieve",
        summary="One product",
        tags=["products"],
        parameters=[_ID],
        responses={200: ProductSerializer, 404: None},
    ),
    put=extend_schema(
        operation_id="products_update",
        summary="Replace a product, or make it",
        tags=["products"],
        parameters=[_ID, _CREATED],
        request=ProductReplacementSerializer,
        responses={200: ProductSerializer, 201: ProductSerializer},
        examples=[OpenApiExample("A product", _CONTENT, request_only=True)],
    ),
    patch=extend_schema(
        operation_id="products_partial_update",
        summary="Change some of a product",
        tags=["products"],
        parameters=[_ID],
        request=ProductReplacementSerializer,
        responses={200: ProductSerializer, 404: None},
        examples=[OpenApiExample("Another price", {"extra": {"Price": "17.90"}}, request_only=True)],
    ),
    delete=extend_schema(
        operation_id="products_destroy",
        summary="Delete a product",
        tags=["products"],
        parameters=[_ID],
        responses={204: None, 404: None},
    ),
)
class ProductDetail(ProductView, Cacheable):
    """A product by its id. Hidden products are found with a key for products only."""

    knows_keys_when_open = True

    def get(self, request: Request, product_id: str) -> Response:
        """A product by its id. Hidden products are found with a key for products only."""
        products = Product.objects.defer("source")
        key = key_of(request)
        if not (key and key.products):
            products = products.visible()
        product = get_object_or_404(products, product_id=product_id)
        return Response(ProductSerializer(product, context={"request": request}).data)

    def put(self, request: Request, product_id: str) -> Response:
        """The product becomes what is sent: what is left out is emptied. One that is not there is made.

        Its picture stays. The next import of a file leaves alone what was written here, unless the file itself changes.
        """
        values = self._read(request, product_id)
        try:
            with transaction.atomic():
                product = self.locked(request, product_id)
                change(product, values)
        except Http404:
            check_id(product_id)
            new = NewProductSerializer(data={**cast(dict[str, Any], request.data), "product_id": product_id})
            new.is_valid(raise_exception=True)
            product = create(new.validated_data)
            self.note(request, f"created {product_id}")
            return _answer(request, product, 201)
        self.note(request, f"replaced {product_id}")
        return _answer(request, product)

    def patch(self, request: Request, product_id: str) -> Response:
        """What is sent is changed, and nothing else. `extra` is replaced as a whole."""
        values = self._read(request, product_id, partial=True)
        with transaction.atomic():
            product = self.locked(request, product_id)
            change(product, values)
        self.note(request, f"changed {product_id}")
        return _answer(request, product)

    def delete(self, request: Request, product_id: str) -> Response:
        """It is gone, with what the shop has chosen for its panel. A file that still has it brings it back."""
        with transaction.atomic():
            self.locked(request, product_id).delete()
        self.note(request, f"deleted {product_id}")
        return Response(status=204)

    def _read(self, request: Request, product_id: str, *, partial: bool = False) -> dict[str, Any]:
        asked = ProductReplacementSerializer(data=request.data, partial=partial, context={"product_id": product_id})
        asked.is_valid(raise_exception=True)
        values: dict[str, Any] = asked.validated_data
        return values


@extend_schema_view(
    put=extend_schema(
        operation_id="products_image_update",
        summary="Give a product a picture",
        tags=["products"],
        parameters=[_ID],
        request=dict.fromkeys(("image/jpeg", "image/png", "image/webp", "image/gif"), OpenApiTypes.BINARY),
        responses={200: ProductSerializer, 404: None},
    ),
    delete=extend_schema(
        operation_id="products_image_destroy",
        summary="Take a product's picture away",
        tags=["products"],
        parameters=[_ID],
        responses={200: ProductSerializer, 404: None},
    ),
)
class ProductImage(ProductView):
    """A product's picture, as the body of the request."""

    parser_classes = (PictureParser,)

    def put(self, request: Request, product_id: str) -> Response:
        """JPEG, PNG, WebP or GIF, at most 10 MiB and 25 megapixels. Imports leave it in place.

        The next build of the index embeds it, where it is another one than before.
        """
        if not Product.objects.filter(product_id=product_id).exists():
            raise Http404
        stored = images.store(verified(cast(bytes, request.data) or b""))
        with transaction.atomic():
            product = self.locked(request, product_id)
            give(product, stored)
        self.note(request, f"gave {product_id} the picture {stored.sha256}")
        product.refresh_from_db()
        return _answer(request, product)

    def delete(self, request: Request, product_id: str) -> Response:
        """The product stays, without picture. Imports bring none until their file names another one."""
        with transaction.atomic():
            product = self.locked(request, product_id)
            images.remove(product)
        self.note(request, f"took the picture of {product_id} away")
        return _answer(request, product)


class FacetValueSerializer(serializers.Serializer[object]):
    value = serializers.CharField()
    count = serializers.IntegerField(help_text="How many products have it, of those that everything else asked leaves.")
    chosen = serializers.BooleanField(help_text="Whether it was asked for.")


class FacetSerializer(serializers.Serializer[object]):
    name = serializers.CharField(help_text="The parameter that chooses its values.")
    label = serializers.CharField(help_text="Its name for people.")  # type: ignore[assignment]
    values = FacetValueSerializer(many=True, help_text="The commonest first.")


@extend_schema_view(
    get=extend_schema(
        operation_id="facets",
        summary="Count what is left to choose",
        tags=["products"],
        filters=True,
        parameters=[_SORT],
        responses={
            200: inline_serializer(
                "Facets",
                {
                    "count": serializers.IntegerField(help_text="How many products are found."),
                    "facets": FacetSerializer(many=True),
                },
            ),
        },
    )
)
class FacetsView(Cacheable, generics.GenericAPIView[Product]):
    """The attributes' values among the products found, as beside the grid: takes what finding products takes."""

    queryset = Product.objects.visible().defer("extra", "source")
    filterset_class = ProductFilter
    pagination_class = None
    max_age_s = ASK_AGAIN_S
    speaks = True

    def get(self, request: Request) -> Response:
        """The attributes' values among the products found, as beside the grid: takes what finding products takes.

        An attribute's values are counted over what all the others leave, so that a second one can be chosen.
        """
        products = self.get_queryset()
        self.filter_queryset(products)  # refuses what makes no sense
        found = Browsing(ProductFilter(request.query_params, products).selection, products)
        return Response({"count": len(found), "facets": FacetSerializer(counted_facets(found), many=True).data})


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


class SuggestView(Cacheable):
    """Completions of what is being typed: each word begins a word of the suggestion.

    `did_you_mean` is a search with the catalogue's nearest words in place of those it lacks, where there is nothing to
    suggest; else null.
    """

    max_age_s = ASK_AGAIN_S
    speaks = True

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
                "did_you_mean": None if found else did_you_mean(Selection({}, q=text)),
            }
        )

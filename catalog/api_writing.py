"""What may be written of a product over HTTP: by the rules that the rows of a catalogue's file go by.

A change counts as one by hand (`Product.source` stays as the file had it), so that imports leave it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.cache import get_conditional_response
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import BaseParser

from catalog import images
from catalog.api_errors import Conflict, PreconditionFailed, TooLarge
from catalog.api_fields import Flag, Text
from catalog.columns import ATTRIBUTES, FIELD_OF
from catalog.decoding import MAX_BYTES
from catalog.importing.rows import CONTROL, MAX_EXTRA_CHARS, MAX_EXTRA_NAME_CHARS, is_address
from catalog.models import Product

_CONTENT = ("title", *ATTRIBUTES, "image_url", "extra", "hidden")


class RowText(Text):
    """Text as a file's row may have it; `one_line` without tabs and line breaks too."""

    def __init__(self, *, one_line: bool = False, **options: Any) -> None:
        self.one_line = one_line
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if found := CONTROL.search(value):
            raise ValidationError(_("It has a control character (U+%(code)04X).") % {"code": ord(found[0])})
        if self.one_line and any(character in value for character in "\t\r\n"):
            raise ValidationError(_("It has a tab or a line break."))
        return value


def _text(name: str, help_text: str = "", **options: Any) -> RowText:
    limit = Product._meta.get_field(name).max_length  # type: ignore[union-attr]
    return RowText(max_length=limit, help_text=help_text, **options)


def _optional(name: str, help_text: str = "", **options: Any) -> RowText:
    return _text(name, help_text, required=False, allow_blank=True, default="", **options)


class ProductContentSerializer(serializers.Serializer[Any]):
    """What a product says."""

    title = _text("title")
    gender, category, sub_category, product_type, colour, usage = (_optional(name) for name in ATTRIBUTES)
    image_url = _optional("image_url", "Where imports with `--download` look for its picture.", one_line=True)
    extra = serializers.DictField(
        child=RowText(max_length=MAX_EXTRA_CHARS, allow_blank=True),
        required=False,
        default=dict,
        help_text="Columns that Vitrine does not know, by name: a price, a link to your shop. All of them.",
    )
    hidden = Flag(required=False, default=False, help_text="Whether visitors do not see it.")

    def validate_extra(self, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name.strip() or len(name) > MAX_EXTRA_NAME_CHARS or CONTROL.search(name):
                raise ValidationError(
                    gettext("A column's name has 1 to %(limit)d characters, and no control character.")
                    % {"limit": MAX_EXTRA_NAME_CHARS}
                )
            if name in FIELD_OF:
                raise ValidationError(gettext("%(name)s is a column that Vitrine knows.") % {"name": name})
        return {name: text for name, text in value.items() if text}


class ProductReplacementSerializer(ProductContentSerializer):
    """The whole of a product. What is left out becomes empty."""

    product_id = RowText(required=False, one_line=True, help_text="May be left out; else as in the address.")

    def validate_product_id(self, value: str) -> str:
        if value != self.context["product_id"]:
            raise ValidationError(gettext("The id is another one in the address."))
        return value


class NewProductSerializer(ProductContentSerializer):
    """A product to be made."""

    product_id = _text("product_id", "Part of addresses. Slashes only within it.", one_line=True)

    def validate_product_id(self, value: str) -> str:
        check_id(value)
        return value


class NewProductWithPictureSerializer(NewProductSerializer):
    """A product to be made, in a form."""

    extra = serializers.JSONField(  # type: ignore[assignment]
        required=False, default=dict, help_text="As an object in JSON."
    )
    image = serializers.FileField(required=False, help_text="JPEG, PNG, WebP or GIF, at most 10 MiB and 25 megapixels.")

    def validate_extra(self, value: Any) -> dict[str, str]:
        field = ProductContentSerializer().fields["extra"]
        return super().validate_extra(field.run_validation(value))

    def validate_image(self, value: Any) -> images.VerifiedImage:
        return verified(value.read(MAX_BYTES + 1))


def check_id(product_id: str) -> None:
    """Raises ValidationError for what cannot be part of an address."""
    if not is_address(product_id):
        raise ValidationError(
            gettext("It becomes part of an address: no '/' at its ends, no '//', no '.' or '..' between slashes.")
        )


def verified(data: bytes) -> images.VerifiedImage:
    """The picture, or why it is not taken as a ValidationError."""
    try:
        return images.verify(data)
    except images.ImageError as error:
        raise ValidationError(str(error)) from error


class PictureParser(BaseParser):
    """The bytes of a picture as the body of a request."""

    media_type = "image/*"

    def parse(self, stream: IO[Any], media_type: Any = None, parser_context: Any = None) -> Any:
        data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise TooLarge
        return data


def create(values: Mapping[str, Any]) -> Product:
    """A new product, with its picture where it has one. Raises Conflict where its id is taken."""
    content = dict(values)
    picture: images.VerifiedImage | None = content.pop("image", None)
    stored = images.store(picture) if picture else None
    try:
        with transaction.atomic():
            product = Product.objects.create(**content)
            if stored:
                give(product, stored)
    except IntegrityError as error:
        raise Conflict(gettext("There is a product %(id)s already.") % {"id": content["product_id"]}) from error
    product.refresh_from_db()
    return product


def change(product: Product, values: Mapping[str, Any]) -> None:
    """Write what is given. Call it in the transaction that has locked the product."""
    given = {name: values[name] for name in _CONTENT if name in values}
    if given.get("image_url", product.image_url) != product.image_url:
        product.image_source = ""  # another picture is named: the next import shall look for it
    for name, value in given.items():
        setattr(product, name, value)
    product.save(update_fields=[*given, "image_source", "updated_at"])


def give(product: Product, stored: images.StoredImage) -> None:
    """The picture is the product's, by hand: imports leave it in place."""
    images.accept([images.Acceptance(product.pk, stored, f"{images.BY_HAND}{stored.sha256}")])


def check_conditions(request: HttpRequest, etag: str | None) -> None:
    """`If-Match` and `If-None-Match` before something is written; no ETag: there is nothing yet.

    Raises PreconditionFailed.
    """
    if get_conditional_response(request, etag) is not None:
        raise PreconditionFailed

"""What a product is.

The database is the truth about products. Pictures lie on disk under names made of their SHA-256; every
accepted picture draws an `embedding_row`, by which the spaces of embeddings know it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.db import connections, models
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework_api_key.models import AbstractAPIKey

from catalog import words
from catalog.columns import ATTRIBUTES
from catalog.fields import RowField

THUMBNAIL_SIDE_PX = 480
"""Longest side of a thumbnail."""


def fitted(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    """(width, height) scaled down so that the longer one has at most so many pixels; (0, 0) stays."""
    width, height = size
    if not max(size):
        return (0, 0)
    scale = min(1.0, side_px / max(size))
    return (max(1, round(width * scale)), max(1, round(height * scale)))


class ProductQuerySet(models.QuerySet["Product"]):
    """Questions asked of the catalogue."""

    def visible(self) -> ProductQuerySet:
        """Products that visitors may see: neither hidden by hand nor gone from the file under `--missing hide`."""
        return self.filter(hidden=False, missing_since=None)

    def with_image(self) -> ProductQuerySet:
        return self.filter(embedding_row__isnull=False)

    def with_rows(self, rows: Sequence[int]) -> ProductQuerySet:
        """Products whose picture has one of the rows, of which there may be a hundred thousand."""
        return self.filter(embedding_row__in=self._listed(rows))

    def with_keys(self, keys: Sequence[int]) -> ProductQuerySet:
        """Products that have one of the primary keys, of which there may be a hundred thousand."""
        return self.filter(pk__in=self._listed(keys))

    def _listed(self, numbers: Sequence[int]) -> Any:
        if connections[self.db].vendor == "sqlite":  # has a limit of parameters; a list in JSON is one
            return RawSQL("SELECT value FROM json_each(%s)", [json.dumps([int(number) for number in numbers])])
        return numbers

    def search(self, text: str) -> ProductQuerySet:
        """Products in which each of the words begins a word of the title or of an attribute, in any order and
        case; all, where nothing is asked. On databases without an index of words, they may stand anywhere in them."""
        asked = words.split(text)
        if not asked:
            return self.none() if text.strip() else self.all()
        if matching := words.MATCHING.get(connections[self.db].vendor):
            return self.filter(pk__in=RawSQL(matching, [words.match_expression(asked)]))  # noqa: S611 - bound
        found = self.all()
        for word in asked:
            found = found.filter(reduce(or_, (Q(**{f"{name}__icontains": word}) for name in ("title", *ATTRIBUTES))))
        return found

    def first_found(self, text: str, most: int) -> ProductQuerySet:
        """Of the first so many products that a search finds, those of this query set; the others are never looked at,
        however common the words are."""
        asked = words.split(text)
        matching = words.FIRST_MATCHING.get(connections[self.db].vendor)
        if asked and matching:
            first = RawSQL(matching, [words.match_expression(asked), most])  # noqa: S611 - bound
            return self.filter(pk__in=first).order_by("pk")
        return self.search(text).order_by("pk")[:most]


class Product(models.Model):
    """One row of the catalogue, known to people by `product_id`."""

    product_id = models.CharField(_("product id"), max_length=64, unique=True)
    title = models.CharField(_("title"), max_length=300)
    gender = models.CharField(_("gender"), max_length=100, blank=True)
    category = models.CharField(_("category"), max_length=100, blank=True)
    sub_category = models.CharField(_("sub-category"), max_length=100, blank=True)
    product_type = models.CharField(_("product type"), max_length=100, blank=True)
    colour = models.CharField(_("colour"), max_length=100, blank=True)
    usage = models.CharField(_("usage"), max_length=100, blank=True)
    image_name = models.CharField(
        _("image"),
        max_length=255,
        blank=True,
        help_text=_("The file's name in the catalogue's folder of images."),
    )
    image_url = models.CharField(_("image address"), max_length=2000, blank=True)
    extra = models.JSONField(
        _("further columns"),
        default=dict,
        blank=True,
        help_text=_("Columns of the file that Vitrine does not know."),
    )
    source = RowField(
        default=dict,
        editable=False,
        help_text=_("The row as the file last had it: tells a change in the file from an edit by hand."),
    )

    hidden = models.BooleanField(_("hidden"), default=False)
    missing_since = models.DateTimeField(
        _("missing since"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("When the file no longer had it."),
    )

    image = models.FileField(_("picture"), blank=True, max_length=120, editable=False)
    thumbnail = models.FileField(blank=True, max_length=120, editable=False)
    image_width = models.PositiveIntegerField(default=0, editable=False)
    image_height = models.PositiveIntegerField(default=0, editable=False)
    image_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    image_source = models.CharField(
        max_length=2100,
        blank=True,
        editable=False,
        help_text=_("Where the accepted picture came from; the same again is not read again."),
    )
    image_error = models.CharField(_("picture's trouble"), max_length=500, blank=True, editable=False)
    embedding_row = models.PositiveBigIntegerField(
        _("embedding row"),
        null=True,
        blank=True,
        unique=True,
        editable=False,
        help_text=_("Names this version of the picture to every space of embeddings; never given twice."),
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            # By title, in the order of its letters whatever their case (`catalog.filters`).
            models.Index(Lower("title"), F("id"), name="product_title"),
            # Only products with a picture are looked for by its address (`similarity`); an import of rows
            # writes none of it.
            models.Index(fields=["image_url"], condition=Q(embedding_row__isnull=False), name="product_image_url"),
        ]
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return f"{self.title} ({self.product_id})"

    def get_absolute_url(self) -> str:
        return reverse("catalog:product", args=[self.product_id])

    @property
    def is_visible(self) -> bool:
        return not self.hidden and self.missing_since is None

    @property
    def thumbnail_size(self) -> tuple[int, int]:
        """(width, height) of the thumbnail in pixels, (0, 0) without picture."""
        return fitted((self.image_width, self.image_height), THUMBNAIL_SIDE_PX)


class RowCounter(models.Model):
    """The counter that `Product.embedding_row` is drawn from. One line, and it never goes back."""

    value = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_row_counter")]

    @classmethod
    def draw(cls, count: int) -> range:
        """The next `count` rows. Call it in the transaction that gives them to products.

        The update takes the line's lock, so that two writers never draw the same row.
        """
        if not cls.objects.filter(id=1).update(value=F("value") + count):
            cls.objects.create(id=1, value=count)
        last = cls.objects.values_list("value", flat=True).get(id=1)
        return range(last - count + 1, last + 1)


class ApiKey(AbstractAPIKey):
    """A key to the API, of which only a hash is kept, and what it allows."""

    products = models.BooleanField(
        _("may change products"), default=True, help_text=_("Create, change and delete products and their pictures.")
    )
    builds = models.BooleanField(
        _("may work with index builds"),
        default=False,
        help_text=_("See the stored builds of the index, and have new ones made."),
    )

    class Meta(AbstractAPIKey.Meta):
        verbose_name = _("API key")  # type: ignore[assignment]
        verbose_name_plural = _("API keys")  # type: ignore[assignment]


def _token() -> str:
    return secrets.token_hex(16)


class ImportRun(models.Model):
    """One import that changed the catalogue or tried to (`catalog.importing.runs` writes them)."""

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        INTERRUPTED = "interrupted", _("interrupted")

    began_at = models.DateTimeField(_("when"), default=timezone.now, db_index=True)
    who = models.CharField(_("who"), max_length=150, blank=True, help_text=_("Empty: somebody on the command line."))
    file_name = models.CharField(_("file"), max_length=255)
    sha256 = models.CharField("SHA-256", max_length=64)
    options = models.JSONField(_("options"), default=dict)
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.RUNNING)
    error = models.TextField(_("error"), blank=True)
    rows = models.PositiveIntegerField(_("rows"), default=0)
    created = models.PositiveIntegerField(_("created"), default=0)
    updated = models.PositiveIntegerField(_("changed"), default=0)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0)
    rejected = models.PositiveIntegerField(_("rejected"), default=0)
    missing = models.PositiveIntegerField(
        _("missing"), default=0, help_text=_("Products that the file no longer had, hidden or deleted for it.")
    )
    seconds = models.FloatField(_("seconds"), default=0)
    token = models.CharField(max_length=32, unique=True, default=_token, editable=False)
    """Names its files: unlike a key, never given again, whatever becomes of the database."""

    class Meta:
        ordering = ["-began_at", "-id"]
        verbose_name = _("past import")
        verbose_name_plural = _("past imports")

    def __str__(self) -> str:
        return f"{self.file_name}, {timezone.localtime(self.began_at):%Y-%m-%d %H:%M}"

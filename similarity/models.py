"""What similarity keeps in the database, what people say of pairs of products, and what the admin lists of it.

Builds are folders and doubts are computed: their models have no table, and are there for what Django's admin hangs on a
model: a place in its lists, permissions, the log of changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    AnyManager = models.Manager[Any]
else:  # generic for the type checker only
    AnyManager = models.Manager


class Curation(models.Model):
    """What the shop has chosen for one product's panel: another product to stand first, or never to be shown there.

    Who may see or change products may see or change it.
    """

    class Kind(models.TextChoices):
        PINNED = "pinned", _("pinned")
        HIDDEN = "hidden", _("hidden")

    product = models.ForeignKey("catalog.Product", models.CASCADE, related_name="curations", verbose_name=_("product"))
    other = models.ForeignKey("catalog.Product", models.CASCADE, related_name="+", verbose_name=_("other product"))
    kind = models.CharField(_("kind"), max_length=6, choices=Kind, default=Kind.PINNED)
    position = models.PositiveIntegerField(_("position"), default=0, help_text=_("Of pinned ones, the lowest first."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["product", "other"],
                name="one_curation_per_pair",
                violation_error_message=_("This product is pinned or hidden here already."),
            ),
            models.CheckConstraint(
                condition=~Q(product=F("other")),
                name="curation_of_another",
            ),
        ]
        verbose_name = _("choice for the panel")
        verbose_name_plural = _("choices for the panel of similar items")

    def __str__(self) -> str:
        return f"{self.other}: {self.get_kind_display()}"

    def clean(self) -> None:
        """The constraint alone would not do: inlines do not validate those that name their foreign key."""
        if self.product_id == self.other_id:
            raise ValidationError({"other": _("A product cannot be chosen for its own panel.")})


class DistinctPair(models.Model):
    """Two products that show the same, or nearly, and that somebody said are not duplicates. `one` came first."""

    one = models.ForeignKey("catalog.Product", models.CASCADE, related_name="+")
    other = models.ForeignKey("catalog.Product", models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["one", "other"], name="one_distinction_per_pair"),
            models.CheckConstraint(condition=Q(one__lt=F("other")), name="distinct_pair_in_order"),
        ]
        verbose_name = _("pair of no duplicates")
        verbose_name_plural = _("pairs of no duplicates")

    def __str__(self) -> str:
        return f"{self.one} / {self.other}"


class NoRows(AnyManager):
    """Asks no table, as there is none: without it, `dumpdata` would."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class AdminPage(models.Model):
    """A page among the admin's models."""

    objects = NoRows()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"


class IndexBuild(AdminPage):
    """A stored build of the index, as the admin's log names it. Who may change one may switch to it."""

    id = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(_("name"), max_length=64)

    class Meta(AdminPage.Meta):
        default_permissions = ("view", "change")
        verbose_name = _("index build")
        verbose_name_plural = _("index builds")

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class LabelDoubt(AdminPage):
    """A label in doubt. Who may see or change products may see or correct it."""

    class Meta(AdminPage.Meta):
        default_permissions = ()
        verbose_name = _("label in doubt")
        verbose_name_plural = _("labels in doubt")


class Duplicate(AdminPage):
    """Products that show the same. Who may see or change products may see or decide."""

    class Meta(AdminPage.Meta):
        default_permissions = ()
        verbose_name = _("duplicate")
        verbose_name_plural = _("duplicates")

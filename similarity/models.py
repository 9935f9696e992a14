"""What the admin lists of similarity. Nothing of it lies in the database: builds are folders, doubts are computed.

The models are there for what Django's admin hangs on a model: a place in its lists, permissions, the log of changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    AnyManager = models.Manager[Any]
else:  # generic for the type checker only
    AnyManager = models.Manager


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

"""What an installation that others reach has to be told, and does not start without."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def trouble() -> str:
    """Why this installation must not serve; "" where it may. Commands run all the same."""
    if settings.DEBUG or not settings.NOT_SET:
        return ""
    names = " and ".join(settings.NOT_SET)
    return (
        f"Vitrine does not serve: {names} not set. In production, set DJANGO_SECRET_KEY to 50 random characters that "
        "nobody knows, the same on every machine (python -c 'import secrets; print(secrets.token_urlsafe(50))'), and "
        "DJANGO_ALLOWED_HOSTS to the names that your site is asked by, as shop.example. To try it out on this machine, "
        "set DJANGO_DEBUG=1."
    )


def refuse_unfinished() -> None:
    """Raises ImproperlyConfigured with `trouble`."""
    if said := trouble():
        raise ImproperlyConfigured(said)

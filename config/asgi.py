"""The ASGI entry point, for servers that speak it; the views themselves are synchronous."""

import os

from django.core.asgi import get_asgi_application

from config.production import refuse_unfinished

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

refuse_unfinished()
application = get_asgi_application()

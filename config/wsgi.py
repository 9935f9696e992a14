"""The WSGI entry point: `gunicorn config.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

from config.production import refuse_unfinished

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

refuse_unfinished()
application = get_wsgi_application()

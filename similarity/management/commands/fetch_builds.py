"""`manage.py fetch_builds`: the index that another machine has published."""

from similarity.management.exchanging import ExchangeCommand


class Command(ExchangeCommand):
    help = (
        "Fetches the index that is published on the shared storage (VITRINE_SHARE), checks every file of it and "
        "publishes it here; running servers notice. Until then, and where it is damaged, the former one goes on "
        "answering."
    )
    exchange, done = "fetch", "Fetched and published"

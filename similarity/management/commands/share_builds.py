"""`manage.py share_builds`: the published index, for other machines."""

from similarity.management.exchanging import ExchangeCommand


class Command(ExchangeCommand):
    help = (
        "Puts the published index on the storage that all machines reach (VITRINE_SHARE), where fetch_builds on the "
        "others finds it. What is there already is not sent again."
    )
    exchange, done = "share", "Shared"

"""The product's own settings, and two models that cost nothing: it is not the network that matters here but what is
written, when, and what is asked.
"""

from config.settings import *  # noqa: F403
from config.settings import SIMILARITY

for _name, _side in (("cheap", 8), ("cheaper", 5)):
    SIMILARITY["EMBEDDERS"][_name] = {
        "BACKEND": "bench.torture.cheap.ThumbnailEmbedder",
        "OPTIONS": {"side": _side},
    }

"""Runtimes: what runs a network. An embedder's network never knows which; `similarity.runtimes.choice` says.

Nothing here but `choice` knows of Django.
"""

from similarity.runtimes.base import Network, Runtime, RuntimeUnavailable, Session

__all__ = ["Network", "Runtime", "RuntimeUnavailable", "Session"]

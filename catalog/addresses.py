"""Which network addresses a picture may be fetched from.

The danger is a server that asks its own neighbours on a stranger's behalf (CWE-918). A name that is checked and then
looked up again may stand for something else the second time, so whoever connects does so to an address from here.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from django.conf import settings

from catalog.images import ImageError

PORTS = frozenset({80, 443})

Address = IPv4Address | IPv6Address
Resolver = Callable[[str], Sequence[str]]
"""A host's name → its network addresses as text. Raises OSError."""

_CLOSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a cloud's own services, at an address that looks public
    )
)
"""IANA's special-purpose registry, multicast, and what clouds keep for themselves. `is_global` of Python 3.11.7 lets
several of these through, and which ones changes from release to release."""
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
"""All that IANA has given out; NAT64, mapped, compatible, local and multicast addresses lie outside."""
_CLOSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarks, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address within
        "3fff::/20",
    )
)
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""What stands before the IPv4 address in the lower half (RFC 5214)."""


def is_public(address: Address) -> bool:
    """Whether it is a unicast address of the open internet, with no other address hidden in it."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _CLOSED_V4)
    return (
        address.is_global
        and address.scope_id is None
        and address in _GLOBAL_UNICAST_V6
        and not any(address in network for network in _CLOSED_V6)
        and int(address) >> 32 & 0xFFFF_FFFF not in _ISATAP
    )


def system_resolver(host: str) -> list[str]:
    """As the machine looks names up."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))


def addresses_of(host: str, resolve: Resolver, wait_s: float) -> list[str]:
    """The host's addresses; its own where it is one. Raises what `resolve` does, and TimeoutError after `wait_s`.

    A lookup cannot be stopped, so it is waited for no longer.
    """
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    found: list[Sequence[str]] = []
    failed: list[Exception] = []

    def look_up() -> None:
        try:
            found.append(resolve(host))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            failed.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(wait_s)
    if found:
        return list(found[0])
    raise failed[0] if failed else TimeoutError(f"The name {host} was not found within {wait_s:.3g} s.")


@dataclass(frozen=True)
class Reach:
    """Which addresses an import may ask. `private` opens every network and port; `hosts`, where given, are the only
    ones that are asked, and those below them ("example.com" opens cdn.example.com).
    """

    private: bool = False
    hosts: tuple[str, ...] = ()
    resolve: Resolver = system_resolver

    def check(self, url: str) -> None:
        """Raises ImageError for an address that is not asked, from how it is written alone."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ImageError("The address cannot be understood.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ImageError("It is not an http or https address.")
        if "@" in parts.netloc:
            raise ImageError("The address carries a user's name or password, which are not sent.")
        if port not in (None, *PORTS) and not self.private:
            raise ImageError(f"The address names port {port}; imports ask ports 80 and 443. {_OPEN}")
        host = parts.hostname.rstrip(".").lower()
        if self.hosts and not any(host == name or host.endswith(f".{name}") for name in self.hosts):
            raise ImageError(f"VITRINE_IMPORT_HOSTS does not name the host {host}.")

    def addresses(self, host: str, wait_s: float) -> list[str]:
        """Where the host may be connected to. Raises ImageError where one of its addresses is not public, OSError
        where it has none or is not found in time."""
        found = addresses_of(host, self.resolve, wait_s)
        # One that is not public spoils them all: who answers with a mixture is up to something.
        if not self.private and not all(is_public(ip_address(each)) for each in found):
            raise ImageError(f"The host {host} is not on the public internet. {_OPEN}")
        return found


_OPEN = "VITRINE_IMPORT_FETCH=private lets imports reach private networks and all ports."


def reach_of_settings() -> Reach:
    """What VITRINE_IMPORT_FETCH and VITRINE_IMPORT_HOSTS open."""
    return Reach(settings.IMPORT_FETCH == "private", tuple(settings.IMPORT_HOSTS))

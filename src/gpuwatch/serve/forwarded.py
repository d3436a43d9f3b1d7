"""Who a client is that comes through a proxy: X-Forwarded-For and -Proto, believed of trusted proxies alone. Pure but for the environ it changes.

The rightmost address that is no trusted proxy's counts: what stands left of it was written by who knows whom.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any, Dict, Iterable, Optional, Tuple, Union

from gpuwatch.model.errors import UsageError
from gpuwatch.serve.wsgi import App, StartResponse

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
MOST_HOPS = 20
LONGEST_HOP = 64
"""Addresses are remembered: a header is not."""
HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_BY", "HTTP_FORWARDED")
"""No view may see them: what is true of them is in the environ's own fields."""


def networks(text: str) -> Tuple[Network, ...]:
    """Addresses and networks, separated by commas or spaces. Raises UsageError naming the one that is none."""
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise UsageError(f"trusted_proxies: {word[:60]!r} is no address or network ({error}).", "Write such as 127.0.0.1, 10.0.0.0/24.") from None
    return tuple(found)


def forwarded(app: App, trusted: Tuple[Network, ...]) -> App:
    """REMOTE_ADDR and the scheme as trusted proxies tell them; of others nothing is believed."""

    @lru_cache(maxsize=4096)
    def is_trusted(text: str) -> Optional[bool]:
        """None: it is no address."""
        address = _address(text)
        return None if address is None else any(address.version == network.version and address in network for network in trusted)

    def known(environ: Dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        given = {name: environ.pop(name, "") for name in HEADERS}
        peer = plain(str(environ.get("REMOTE_ADDR", "")))
        if is_trusted(peer):
            environ["REMOTE_ADDR"] = _client(peer, str(given["HTTP_X_FORWARDED_FOR"]), is_trusted)
            scheme = str(given["HTTP_X_FORWARDED_PROTO"]).rpartition(",")[2].strip().lower()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        return app(environ, start_response)

    return known


def _client(peer: str, told: str, is_trusted: Any) -> str:
    """From right to left as long as it leads from one trusted proxy to the next."""
    client = peer
    for word in reversed(told.split(",")[-MOST_HOPS:]):
        hop = plain(_without_port(word.strip()[:LONGEST_HOP]))
        trusted = is_trusted(hop)
        if trusted is None:
            break
        client = hop
        if not trusted:
            break
    return client


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def plain(address: str) -> str:
    """192.0.2.1 instead of ::ffff:192.0.2.1."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def _address(text: str) -> Optional[Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None

"""Is this request from where it may come from?

Checked for every HTTP and WebSocket request, loopback included, before anything else is looked at: a page of another site can make a
browser talk to a server on the same machine. A request without an Origin does not come from a page. The Host check keeps a foreign name that
was pointed at this address (DNS rebinding) from being taken for our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec import Struct

from sightline_gateway.problems import ProblemError

__all__ = ["OriginPolicy"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OriginPolicy(Struct, frozen=True):
    """The bind host and the two allow-lists."""

    bind_host: str
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise ProblemError `host_not_allowed` or `origin_not_allowed`, or return."""
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or not (_is_loopback_name(name) or name in self._names()):
            raise ProblemError("host_not_allowed", f"host {host!r} is not one of this server's names; see --allow-host")
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and not _is_own_origin(origin, host):
            raise ProblemError("origin_not_allowed", f"origin {origin!r} is not allowed; see --allow-origin")

    def _names(self) -> set[str]:
        return {_bare(name) for name in (self.bind_host, *self.hosts)}


def _bare(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return _bare(parts.hostname)


def _is_loopback_name(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_own_origin(origin: str, host: str) -> bool:
    """Same host and port as the request was sent to. The scheme is not compared: a proxy in front may have ended TLS."""
    try:
        parts = urlsplit(origin)
        here = urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(parts.scheme)
        if default is None or parts.path or parts.query or parts.username is not None:
            return False
        return parts.hostname == here.hostname and (parts.port or default) == (here.port or default)
    except ValueError:
        return False

"""Is this request from where it may come from?

Checked for every HTTP and WebSocket request, loopback included, before anything else is looked at: a page of another
site can make a browser talk to a server on the same machine. A request without an Origin does not come from a page. The
Host check keeps a foreign name that was pointed at this address (DNS rebinding) from being taken for our own.

What is not plainly a host or an origin is refused, not interpreted: where two readers can differ, one can be fooled.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from msgspec import Struct
from starlette.datastructures import Headers

from sightline_gateway.problems import ProblemError

__all__ = ["OriginPolicy"]

_AUTHORITY = r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5})?)?"
_HOST = re.compile(_AUTHORITY, re.ASCII)
_ORIGIN = re.compile(rf"(?P<scheme>[A-Za-z]+)://{_AUTHORITY}", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHOWN = 200


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class OriginPolicy(Struct, frozen=True):
    """The bind host and the two allow-lists."""

    bind_host: str
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def check(self, headers: Headers) -> None:
        """Raise ProblemError `host_not_allowed` or `origin_not_allowed`, or return."""
        host = _only(headers, "host")
        matched = _HOST.fullmatch(host or "")
        if matched is None or not self._is_ours(_bare(matched["host"])):
            shown = "none" if host is None else repr(host[:_SHOWN])
            raise ProblemError("host_not_allowed", f"host {shown} is not one of this server's names; see --allow-host")
        if "origin" not in headers:
            return
        origin = _only(headers, "origin") or ""
        if not self.is_listed(origin) and not _is_own(_origin(origin), matched):
            raise ProblemError("origin_not_allowed", f"origin {origin[:_SHOWN]!r} is not allowed; see --allow-origin")

    def is_listed(self, origin: str) -> bool:
        """Whether the origin is on the allow-list: a page of another site that may read our answers."""
        asked = _origin(origin)
        return asked is not None and any(asked == _origin(listed) for listed in self.origins)

    def _is_ours(self, name: str) -> bool:
        return _is_loopback_name(name) or name in {_bare(listed) for listed in (self.bind_host, *self.hosts)}


def _only(headers: Headers, name: str) -> str | None:
    """The header's one value; none where it is missing, or there twice."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else None


def _bare(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


@lru_cache(maxsize=256)
def _is_loopback_name(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _origin(text: str) -> _Origin | None:
    matched = _ORIGIN.fullmatch(text)
    if matched is None or matched["scheme"].lower() not in _DEFAULT_PORTS:
        return None
    scheme = matched["scheme"].lower()
    return _Origin(scheme, matched["host"].lower(), int(matched["port"] or _DEFAULT_PORTS[scheme]))


def _is_own(origin: _Origin | None, host: re.Match[str]) -> bool:
    """Same host and port as the request was sent to.

    The scheme is not compared, because a proxy in front may have ended TLS; it only tells the port that goes unsaid.
    """
    if origin is None:
        return False
    port = int(host["port"] or _DEFAULT_PORTS[origin.scheme])
    return (origin.host, origin.port) == (host["host"].lower(), port)

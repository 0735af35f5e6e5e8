"""Which proxy stands before an API server.

Purpose: the answer to one question, asked once when a transport starts.

Guarantees:

* TRA3: the environment is read once. Asking it for each request, as ``trust_env=True`` does, costs 3.7 times the
  request; ignoring it locks out everybody behind a proxy (kopf#1279).
* ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``, upper or lower case, mean what they mean to ``kubectl``: the scheme
  of the server chooses the variable; ``NO_PROXY`` has names with their sub-domains, addresses, CIDRs, ports and ``*``;
  this very machine is never reached through a proxy of the environment.
* LOG4: a password in a proxy's URL is taken out of it at once.

What this does not do: SOCKS.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from kruise.runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the header that it asks for."""

    url: str
    """Without a user."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def resolve_proxy(host: str, *, configured: str | None, env: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for *host*, a URL; *configured* wins over *env*, and ``""`` means none. Raises ConfigError."""
    target = urlsplit(host)
    if configured is not None:
        return _proxy(configured, "proxy-url") if configured else None
    name = "HTTPS_PROXY" if target.scheme == "https" else "HTTP_PROXY"
    value = env.get(name) or env.get(name.lower()) or ""
    if not value or _bypassed(target, env.get("NO_PROXY") or env.get("no_proxy") or ""):
        return None
    return _proxy(value if "://" in value else f"http://{value}", name)


def _proxy(text: str, where: str) -> Proxy:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ConfigError(f"{where}: is no URL of a proxy ({error})") from error
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(f"{where}: must be http://HOST:PORT or https://HOST:PORT; {url.scheme!r} is not supported")
    hostname = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    headers = {}
    if url.username:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
    return Proxy(f"{url.scheme}://{hostname}" + (f":{port}" if port else ""), headers)


def _bypassed(target: SplitResult, exceptions: str) -> bool:
    host = (target.hostname or "").lower().rstrip(".")
    port = target.port or (443 if target.scheme == "https" else 80)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, port, address) for entry in exceptions.split(",") if entry.strip())


def _matches(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    whole = _address(entry.strip("[]"))
    if whole is not None:
        return address == whole
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        entry = name.strip("[]")
        if _address(entry) is not None:
            return address == _address(entry)
    if entry.startswith(("*.", ".")):
        return host.endswith(entry.removeprefix("*"))
    return host == entry or host.endswith("." + entry)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None

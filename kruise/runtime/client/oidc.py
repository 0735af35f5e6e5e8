"""ID tokens of an OpenID Connect provider, renewed with a refresh token.

Purpose: the ``oidc`` auth-provider of a kubeconfig.

Guarantees:

* AUT2: an ID token is used until shortly before its ``exp``, and renewed by one request however many callers wait.
  A refresh token that the provider rotated is handed to *save*: were it lost, the next start would fail.
* AUT3: after a 401 the token is renewed, whatever its ``exp``.
* The provider's certificate is always checked, against its own CA where the kubeconfig names one.

What this does not do: no log-in in a browser; that is what exec plugins are for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kruise.runtime.clock import Clock
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger

EARLY: Final = 10.0
"""Seconds before its end at which a token is renewed."""
_TIMEOUT: Final = 30.0

log = get_logger("auth")


@dataclass(frozen=True, slots=True)
class OidcUser:
    """``users[].user.auth-provider.config`` of a kubeconfig."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    ca_data: bytes = field(default=b"", repr=False)
    source: str = ""


def expiry_of(token: str) -> float | None:
    """Return the ``exp`` of a JSON web token; ``None`` when it has none that can be read."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    return float(end) if isinstance(end, int | float) else None


class OidcCredentials:
    """The ID token of a person. *save* takes a new ID token and the refresh token that goes with it."""

    def __init__(self, user: OidcUser, clock: Clock, save: Callable[[str, str], None]) -> None:
        self._user = user
        self._clock = clock
        self._save = save
        self._lock = asyncio.Lock()
        self._renewals = 0
        self._refresh_token = user.refresh_token
        self._set(user.id_token)
        if not user.id_token and not user.refresh_token:
            raise ConfigError(f"{user.source}: neither id-token nor refresh-token is set; log in again")

    def _set(self, token: str) -> None:
        self._token = token
        self._expires = expiry_of(token)
        self._headers: Mapping[str, str] = MappingProxyType({"authorization": f"Bearer {token}"} if token else {})

    def _fresh(self) -> bool:
        return bool(self._token) and (self._expires is None or self._clock.now() < self._expires - EARLY)

    async def headers(self) -> Mapping[str, str]:
        if not self._fresh():
            async with self._lock:
                if not self._fresh():
                    await self._renew()
        return self._headers

    async def refresh(self) -> bool:
        if not self._refresh_token:
            return False
        seen = self._renewals
        async with self._lock:
            if self._renewals == seen:
                await self._renew()
        return True

    async def _renew(self) -> None:
        source = self._user.source
        if not self._refresh_token:
            raise ConfigError(f"{source}: the id-token has expired and there is no refresh-token; log in again")
        answer = await self._ask()
        token = answer.get("id_token")
        if not isinstance(token, str) or not token:
            raise ConfigError(f"{source}: the provider {self._user.issuer} answered without an id_token; log in again")
        rotated = answer.get("refresh_token")
        if isinstance(rotated, str) and rotated:
            self._refresh_token = rotated
        self._set(token)
        self._renewals += 1
        try:
            self._save(token, self._refresh_token)
        except OSError as error:
            log.warning("renewed oidc login not saved, the next start may need a new log-in", problem=str(error))

    async def _ask(self) -> dict[str, Any]:
        import aiohttp

        user = self._user
        try:
            context = ssl.create_default_context(cadata=user.ca_data.decode("ascii") if user.ca_data else None)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{user.source}: idp-certificate-authority is no usable CA ({error})") from error
        basic = base64.b64encode(f"{user.client_id}:{user.client_secret}".encode()).decode("ascii")
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                # The provider is not the API server: the environment's proxy settings are for exactly such hosts.
                aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session,
            ):
                where = f"{user.issuer.rstrip('/')}/.well-known/openid-configuration"
                async with session.get(where, ssl=context, raise_for_status=True) as found:
                    endpoint = msgspec.json.decode(await found.read())["token_endpoint"]
                form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
                headers = {"authorization": f"Basic {basic}"}
                async with session.post(endpoint, data=form, headers=headers, ssl=context) as answer:
                    body = await answer.read()
                    if answer.status != 200:
                        raise ConfigError(
                            f"{user.source}: the provider {user.issuer} refused the refresh token ({answer.status}); "
                            f"log in again"
                        )
                    read = msgspec.json.decode(body, type=dict[str, Any])
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{user.source}: the provider {user.issuer} gave no usable answer: {type(error).__name__}"
            ) from error
        return read

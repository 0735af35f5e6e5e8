"""Where a keyring is kept: in a Secret, or in a directory.

Purpose: read and write five values, so that two replicas that write at once do not both succeed.

Guarantees:

* CRT4: a write is conditional on what was read: in a Secret on its resourceVersion; else Conflict is raised, and the
  caller reads again.
* CRT2: a Secret that is there and empty is as good as none; what others keep in it stays. Where there is no Secret at
  all, one is created, which needs a right that the manifests do not give: they have the Secret instead.
* A directory is private, and each of its files is replaced as a whole.
* LOG4: no value appears in a line or in an error.

What this does not do: it knows no certificate. Several processes must not share a directory: nothing there is
conditional between them.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from kruise.runtime.client.client import Client
from kruise.runtime.errors import AlreadyExists, Conflict, NotFound, Status
from kruise.runtime.objects import EMPTY_MAP, Key, Object, Resource
from kruise.runtime.webhook.certs import FIELDS

__all__ = ["SECRETS", "DirectoryStore", "Held", "Secret", "SecretStore", "Store"]


class Secret(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A Secret: only ever read live, and by name."""

    data: dict[str, str] = EMPTY_MAP
    type: str = ""

    def __repr__(self) -> str:
        return f"Secret({self.key})"


SECRETS: Final = Resource("", "v1", "Secret", "secrets", Secret)


@dataclass(frozen=True, slots=True)
class Held:
    """What was read."""

    data: Mapping[str, bytes] = field(repr=False)
    token: Any = field(default=None, repr=False, compare=False)
    """What the store needs for a conditional write."""


class Store(Protocol):
    """A place for a keyring."""

    @property
    def where(self) -> str:
        """The place, in words for people."""
        ...

    async def read(self) -> Held:
        """Return what is there; no data when there is nothing. Raises what the place raises."""
        ...

    async def write(self, held: Held, data: Mapping[str, bytes]) -> None:
        """Store *data* in the place of what was *held*. Raises Conflict when that is not there any more."""
        ...


class SecretStore:
    """A Secret, by name."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self._client = client
        self._key = Key(namespace, name)

    @property
    def where(self) -> str:
        return f"Secret {self._key}"

    async def read(self) -> Held:
        try:
            secret = await self._client.live.get(SECRETS, self._key)
        except NotFound:
            return Held({})
        return Held({name: _decoded(secret.data[name]) for name in FIELDS if secret.data.get(name)}, secret)

    async def write(self, held: Held, data: Mapping[str, bytes]) -> None:
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        if held.token is None:
            meta = {"namespace": self._key.namespace, "name": self._key.name}
            try:
                await self._client.create(SECRETS, {"metadata": meta, "type": "Opaque", "data": encoded})
            except AlreadyExists as error:
                raise Conflict(error.status) from error
            return
        gone = {name: None for name in FIELDS if name not in data and name in held.data}
        await self._client.patch(SECRETS, held.token, {"data": {**encoded, **gone}})


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


class DirectoryStore:
    """A directory that one process writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        return f"directory {self._folder}"

    async def read(self) -> Held:
        found: dict[str, bytes] = {}
        for name in FIELDS:
            path = self._folder / name
            if path.is_file():
                found[name] = path.read_bytes()
        return Held(found)

    async def write(self, held: Held, data: Mapping[str, bytes]) -> None:
        if (await self.read()).data != held.data:
            raise Conflict(Status(409, "Conflict", f"{self.where}: the files have changed"))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FIELDS:
            if name in data:
                _replace(self._folder / name, data[name])
            else:
                (self._folder / name).unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    """Put *content* at *path* as a whole, readable for its owner alone."""
    new = path.with_name(f".{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

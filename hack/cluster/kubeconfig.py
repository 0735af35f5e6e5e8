"""Writes kubeconfigs: of a client certificate, or of a ServiceAccount's own token.

What this does not do: it reads none; the runtime does that.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from hack.cluster.certs import Pki


def _b64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def write(path: Path, *, server: str, ca: Path, user: str, credentials: dict[str, Any], namespace: str = "") -> Path:
    """Write a kubeconfig with one cluster, user and context; return *path*. Only its owner may read it."""
    context = {"cluster": "local", "user": user} | ({"namespace": namespace} if namespace else {})
    content = {  # JSON is YAML, and every client reads it
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": _b64(ca)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "local", "context": context}],
    }
    # Replaced by a rename: a component that starts at this moment reads a whole file.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as out:
        json.dump(content, out, indent=1)
    fresh.replace(path)
    return path


def of_certificate(path: Path, *, server: str, pki: Pki, name: str) -> Path:
    """Write the kubeconfig of the client certificate *name*."""
    credentials = {
        "client-certificate-data": _b64(pki.cert(name)),
        "client-key-data": _b64(pki.key(name)),
    }
    return write(path, server=server, ca=pki.cert("ca"), user=name, credentials=credentials)


def of_token(path: Path, *, server: str, pki: Pki, user: str, token: str, namespace: str) -> Path:
    """Write a kubeconfig whose user is a bearer token."""
    return write(path, server=server, ca=pki.cert("ca"), user=user, credentials={"token": token}, namespace=namespace)

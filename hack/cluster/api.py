"""Plain requests to the API server of a local control plane, as its administrator.

Purpose: what starting a cluster and a test's own arrangements need (readiness, CRDs, tokens), without the project's
client, because that is what the tests test.

What this does not do: no watches, no retries.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Any

import yaml

from hack.cluster.certs import Pki
from hack.cluster.errors import ClusterError


class ApiCallError(ClusterError):
    """The API server refused a request. ``code`` is the HTTP status."""

    def __init__(self, method: str, path: str, code: int, message: str) -> None:
        super().__init__(f"{method} {path}: {code} {message}")
        self.code = code


class Api:
    """The API server on one port."""

    def __init__(self, port: int, pki: Pki) -> None:
        self._port = port
        self._pki = pki
        self._tls: ssl.SSLContext | None = None

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self._pki.cert("ca")))
            self._tls.load_cert_chain(self._pki.cert("admin"), self._pki.key("admin"))
        return self._tls

    def ask(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout: float = 10.0
    ) -> tuple[int, bytes]:
        """Return status and body; (0, reason) when there was no answer."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=timeout, context=self._context())
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": content_type, "User-Agent": "hack-cluster"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def call(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout: float = 10.0
    ) -> dict[str, Any]:
        """Return the decoded answer. Raises ApiCallError for anything but success."""
        code, raw = self.ask(method, path, body, content_type=content_type, timeout=timeout)
        if not 200 <= code < 300:
            try:
                message = json.loads(raw).get("message", "")
            except ValueError:
                message = raw.decode(errors="replace")
            raise ApiCallError(method, path, code, message)
        answer: dict[str, Any] = json.loads(raw)
        return answer

    def put(self, collection: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object, or replace the one of its name."""
        path = f"{collection}/{body['metadata']['name']}"
        try:
            return self.call("POST", collection, body)
        except ApiCallError as error:
            if error.code != 409:
                raise
        version = self.call("GET", path)["metadata"]["resourceVersion"]
        return self.call("PUT", path, {**body, "metadata": {**body["metadata"], "resourceVersion": version}})

    def install_crds(self, directory: Path, *, timeout: float = 30.0) -> list[str]:
        """Install every CustomResourceDefinition under *directory*, wait until all are served; return the names."""
        found = {}
        for path in sorted(directory.rglob("*.y*ml")) if directory.is_dir() else []:
            for document in yaml.safe_load_all(path.read_text()):
                if isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition":
                    found[document["metadata"]["name"]] = document
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for document in found.values():
            self.put(collection, document)
        end = time.monotonic() + timeout
        for name in found:
            while not self._established(f"{collection}/{name}"):
                if time.monotonic() > end:
                    raise ClusterError(f"the CustomResourceDefinition {name} is not established after {timeout:.0f} s")
                time.sleep(0.1)
        return list(found)

    def _established(self, path: str) -> bool:
        conditions = self.call("GET", path).get("status", {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    def ready_nodes(self) -> int:
        """Return how many nodes are Ready and take pods."""
        items = self.call("GET", "/api/v1/nodes?resourceVersion=0", timeout=30.0)["items"]
        return sum(
            not node["spec"].get("taints")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions") or [])
            for node in items
        )

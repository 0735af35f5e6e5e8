"""HTTPS and access: a certificate of its own, bearer tokens, and the kubeconfig that carries both.

Purpose: kubectl and every other client reach the embedded server the way in which they reach a real one.

Guarantees:

* TST1: a wrong token is 401, as is none when anonymous access is off. The server's certificate is signed by an
  authority that lives as long as the process; both are made in memory.
* A kubeconfig is written whole, readable by its owner only.

What this does not do: there is no authorization: who is let in may do everything.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kruise.runtime.clock import UTC
from kruise.simulator.apiserver.failure import Failure

LIFETIME: Final = datetime.timedelta(days=365)
NAMES: Final = ("localhost", "127.0.0.1", "::1", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority and the server's pair, in PEM."""

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)

    def context(self) -> ssl.SSLContext:
        """Return the context that serves the pair."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        with tempfile.TemporaryDirectory() as folder:  # private to its owner, and gone at once
            chain, key = Path(folder, "chain"), Path(folder, "key")
            chain.write_bytes(self.certificate)
            key.write_bytes(self.key)
            context.load_cert_chain(chain, key)
        return context


def make_certificates(*, now: float, names: Sequence[str] = NAMES) -> Certificates:
    """Return a new authority and a server certificate for *names*. *now* is wall time in seconds."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    begin = datetime.datetime.fromtimestamp(now, UTC) - datetime.timedelta(hours=1)

    def general(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def begun(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("embedded-cluster-authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    own, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        begun("embedded-cluster-authority", own.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(own, hashes.SHA256())
    )
    certificate = (
        begun("embedded-apiserver", key.public_key())
        .add_extension(x509.SubjectAlternativeName([general(n) for n in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key()), critical=False)
        .sign(own, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    return Certificates(
        authority.public_bytes(pem),
        certificate.public_bytes(pem),
        key.private_bytes(pem, form, serialization.NoEncryption()),
    )


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in over HTTP."""

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Bearer token -> the name of its user. Empty: every token is taken."""
    anonymous: bool = True
    """Whether a request without a token is served."""

    def check(self, headers: Mapping[str, str]) -> str:
        """Return the user of a request. Raises Failure 401."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            if self.anonymous:
                return "system:anonymous"
            raise Failure(401, "Unauthorized", "Unauthorized")
        if not self.tokens:
            return "system:admin"
        user = self.tokens.get(token.strip())
        if user is None:
            raise Failure(401, "Unauthorized", "Unauthorized")
        return user


def kubeconfig(url: str, *, authority: bytes = b"", token: str = "", namespace: str = "") -> dict[str, Any]:
    """Return the kubeconfig of a server at *url*."""
    cluster: dict[str, Any] = {"server": url}
    if authority:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    context = {"cluster": "embedded", "user": "admin"} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "embedded",
        "clusters": [{"name": "embedded", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "embedded", "context": context}],
    }


def write_kubeconfig(path: Path, content: Mapping[str, Any]) -> Path:
    """Write *content* to *path* in one step, readable by its owner only; return *path*."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(content, out, indent=1)  # JSON is YAML, and every client reads it
    fresh.replace(path)
    return path

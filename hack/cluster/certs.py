"""The certificates of a local control plane: one authority, the API server's certificate, one per client.

Purpose: everything that mutual TLS on 127.0.0.1 needs, made by ``cryptography``, so that no tool beside Python is
asked for.

Guarantees: private keys are readable by their owner only; what exists is kept, so that a restarted control plane
accepts the kubeconfigs that it gave out before.

What this does not do: no rotation; the certificates live ten years and the cluster does not.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = datetime.timedelta(days=3650)
_SERVER_NAMES: Final = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_SERVER_ADDRESSES: Final = ("127.0.0.1", "10.96.0.1")

CLIENTS: Final = {
    "admin": ("admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    # The simulated nodes play every kubelet at once, which no single node identity may; hence an identity of their own.
    "nodes": ("simulated-nodes", "system:masters"),
}
"""Name of the files, and the user and group of each client certificate."""


@dataclass(frozen=True, slots=True)
class Pki:
    """The certificates in one directory."""

    directory: Path

    def cert(self, name: str) -> Path:
        """Return the path of a certificate: ``ca``, ``apiserver`` or a name of :data:`CLIENTS`."""
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of the key of :meth:`cert`, or of the signing key ``sa``."""
        return self.directory / f"{name}.key"

    @property
    def service_account_public(self) -> Path:
        """The public half of the key that signs ServiceAccount tokens."""
        return self.directory / "sa.pub"

    def make(self) -> None:
        """Create what is not there yet."""
        if self.service_account_public.exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key)
        _write(self.cert("ca"), authority.public_bytes(serialization.Encoding.PEM))
        self._leaf(authority, authority_key, "apiserver", "kube-apiserver", "", server=True)
        for name, (user, group) in CLIENTS.items():
            self._leaf(authority, authority_key, name, user, group, server=False)
        signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        _write(self.key("sa"), _pem(signer), secret=True)
        public = signer.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write(self.service_account_public, public)

    def _leaf(
        self,
        authority: x509.Certificate,
        authority_key: ec.EllipticCurvePrivateKey,
        name: str,
        user: str,
        group: str,
        *,
        server: bool,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(_name(user, group), authority.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if server:
            builder = builder.add_extension(_alternatives(_SERVER_NAMES, _SERVER_ADDRESSES), critical=False)
        made = builder.sign(authority_key, hashes.SHA256())
        _write(self.cert(name), made.public_bytes(serialization.Encoding.PEM))
        _write(self.key(name), _pem(key), secret=True)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("local-control-plane-ca", "")
    return (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _name(user: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _alternatives(names: Sequence[str], addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [*(x509.DNSName(n) for n in names), *(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses)]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, secret: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if secret else 0o644)
    with os.fdopen(fd, "wb") as out:
        out.write(content)

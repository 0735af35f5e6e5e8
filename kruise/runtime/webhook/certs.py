"""An authority of our own, the certificate that it signs, and when each is followed by its successor.

Purpose: certificates for the webhooks without anybody else's help. Everything here is a value: the keyring as it is
stored, and a function that says what the next one is.

Guarantees:

* CRT3: a leaf lives 90 days and is renewed 30 days before its end. An authority lives a year; half a year before its
  end its successor is made and joins the bundle. The successor signs only after the bundle with it has been seen in
  every configuration for a while. An authority leaves the bundle at its own end, and no leaf outlives its authority:
  whoever still serves the old chain serves one that has ended.
* CRT1: :meth:`Keyring.read` takes a keyring as a whole or not at all: the key fits the leaf, an authority of the
  bundle has signed it, and the key of the authority fits as well.
* F11: certificates begin a day before they are made, so that clocks may differ.
* LOG4: neither ``repr`` nor an error shows a key.

What this does not do: it reads no clock, stores nothing (``stores.py``), and tells nobody (``targets.py``).
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid

from kruise.runtime.clock import UTC
from kruise.runtime.manager.certs import LIFETIME, RENEW_BEFORE, Pair

__all__ = ["Authority", "CertificateRules", "Keyring", "UnusableKeyring", "authorities", "signers_of", "successor"]

DAY: Final = 86_400.0
BACKDATED: Final = DAY
"""Seconds by which a certificate begins before it is made: the clocks of a cluster differ."""
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
BUNDLE: Final = "ca.crt"
SIGNER_KEY: Final = "ca.key"
NEXT_KEY: Final = "ca-next.key"
FIELDS: Final = (CERTIFICATE, KEY, BUNDLE, SIGNER_KEY, NEXT_KEY)
"""What a keyring is stored as."""


class UnusableKeyring(ValueError):
    """What is stored is no keyring. The text says which part does not fit, and shows none."""


@dataclass(frozen=True, slots=True)
class CertificateRules:
    """How long things live, in seconds, and for whom."""

    hosts: tuple[str, ...]
    """Names and addresses under which the API server calls us. The first one is used to dial ourselves."""
    lifetime: float = LIFETIME
    renew_before: float = RENEW_BEFORE
    authority_lifetime: float = 365 * DAY
    authority_renew_before: float = 180 * DAY
    overlap: float = 600.0
    """For how long a new authority must have been in every configuration before it signs what is served."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs, and its key, in PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    ends: float


@dataclass(frozen=True, slots=True)
class Keyring:
    """Everything that is stored."""

    bundle: tuple[bytes, ...]
    """The certificates of all authorities that clients are to trust."""
    signer: Authority
    upcoming: Authority | None
    """The successor of the signer, while it waits to be known everywhere."""
    leaf: Pair

    @property
    def pem(self) -> bytes:
        """The bundle as it stands in a configuration."""
        return b"".join(self.bundle)

    def data(self) -> dict[str, bytes]:
        """Return what to store. :meth:`read` is the way back."""
        found = {
            CERTIFICATE: self.leaf.certificate,
            KEY: self.leaf.key,
            BUNDLE: self.pem,
            SIGNER_KEY: self.signer.key,
        }
        if self.upcoming is not None:
            found[NEXT_KEY] = self.upcoming.key
        return found

    @classmethod
    def read(cls, data: Mapping[str, bytes]) -> Keyring:
        """Return the keyring that *data* holds. Raises UnusableKeyring."""
        missing = [name for name in FIELDS[:4] if not data.get(name)]
        if missing:
            raise UnusableKeyring(f"{', '.join(missing)}: missing")
        bundle = authorities(data[BUNDLE])
        if not bundle:
            raise UnusableKeyring(f"{BUNDLE}: holds no certificate")
        leaf = _loaded(data[CERTIFICATE], CERTIFICATE)
        if _public(_key(data[KEY], KEY)) != _public_of(leaf):
            raise UnusableKeyring(f"{KEY}: does not belong to {CERTIFICATE}")
        if not any(_signed(leaf, _loaded(one, BUNDLE)) for one in bundle):
            raise UnusableKeyring(f"{CERTIFICATE}: is signed by no authority of {BUNDLE}")
        signer = _authority(bundle, data[SIGNER_KEY], SIGNER_KEY)
        upcoming = _authority(bundle, data[NEXT_KEY], NEXT_KEY) if data.get(NEXT_KEY) else None
        return cls(bundle, signer, upcoming, Pair(data[CERTIFICATE], data[KEY], _end(leaf)))


def authorities(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificates in *pem* one by one; none for what cannot be read."""
    try:
        return tuple(_pem(one) for one in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return ()


def signers_of(ring: Keyring) -> tuple[bytes, ...]:
    """Return the authorities of the bundle that have signed the leaf: one, in PEM."""
    leaf = _loaded(ring.leaf.certificate, CERTIFICATE)
    return tuple(one for one in ring.bundle if _signed(leaf, _loaded(one, BUNDLE)))


def successor(
    ring: Keyring | None, rules: CertificateRules, *, now: float, published: bool
) -> tuple[Keyring, tuple[str, ...]]:
    """Return the keyring that there should be at *now* (wall time), and what is new about it; nothing: it is *ring*.

    *published* says that every configuration has had the whole bundle for the time of the overlap.
    """
    if ring is None:
        signer = _new_authority(now, rules.authority_lifetime)
        leaf = _new_leaf(signer, rules, now)
        return Keyring((signer.certificate,), signer, None, leaf), ("a first authority and certificate",)
    news: list[str] = []
    left = tuple(one for one in ring.bundle if one == ring.signer.certificate or _end(_loaded(one, BUNDLE)) > now)
    if left != ring.bundle:
        ring = replace(ring, bundle=left)
        news.append("an authority that has ended left the bundle")
    if ring.upcoming is None and ring.signer.ends - now <= rules.authority_renew_before:
        upcoming = _new_authority(now, rules.authority_lifetime)
        ring = replace(ring, bundle=(*ring.bundle, upcoming.certificate), upcoming=upcoming)
        news.append("the next authority joined the bundle")
        published = False
    why = _due(ring, rules, now)
    if why:
        ring, more = _renewed(ring, rules, now, published, why)
        news += more
    return ring, tuple(news)


def _due(ring: Keyring, rules: CertificateRules, now: float) -> str:
    if not set(rules.hosts) <= _hosts(_loaded(ring.leaf.certificate, CERTIFICATE)):
        return "for another host"
    return "in time" if ring.leaf.ends - now <= rules.renew_before else ""


def _renewed(
    ring: Keyring, rules: CertificateRules, now: float, published: bool, why: str
) -> tuple[Keyring, tuple[str, ...]]:
    upcoming = ring.upcoming
    # A successor that is not known everywhere waits, unless nothing else could serve tomorrow.
    last_moment = min(ring.signer.ends, ring.leaf.ends) - now <= DAY and ring.signer.ends - now <= rules.renew_before
    if upcoming is not None and (published or last_moment):
        ring = replace(ring, signer=upcoming, upcoming=None)
        leaf = _new_leaf(upcoming, rules, now)
        return replace(ring, leaf=leaf), (f"a new certificate, {why}, of the next authority",)
    ends = min(now + rules.lifetime, ring.signer.ends)
    if why == "in time" and ends - ring.leaf.ends < DAY:
        return ring, ()  # nothing would be won: the authority itself is about to end
    return replace(ring, leaf=_new_leaf(ring.signer, rules, now)), (f"a new certificate, {why}",)


# Making and reading certificates.


def _new_authority(now: float, lifetime: float) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, f"kruise-webhook-ca-{serial & 0xFFFFFFFF:08x}")])
    ends = float(int(now + lifetime))
    certificate = (
        _builder(subject, subject, key.public_key(), serial, now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_pem(certificate), _key_pem(key), ends)


def _new_leaf(authority: Authority, rules: CertificateRules, now: float) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    signer = _key(authority.key, SIGNER_KEY)
    above = _loaded(authority.certificate, BUNDLE)
    subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, "kruise-webhook")])
    ends = float(int(min(now + rules.lifetime, authority.ends)))
    certificate = (
        _builder(subject, above.subject, key.public_key(), x509.random_serial_number(), now, ends)
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in rules.hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Pair(_pem(certificate), _key_pem(key), ends)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, now: float, ends: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(datetime.datetime.fromtimestamp(now - BACKDATED, UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ends, UTC))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def _authority(bundle: tuple[bytes, ...], key: bytes, name: str) -> Authority:
    public = _public(_key(key, name))
    for one in bundle:
        certificate = _loaded(one, BUNDLE)
        if _public_of(certificate) == public:
            return Authority(one, key, _end(certificate))
    raise UnusableKeyring(f"{name}: belongs to no authority of {BUNDLE}")


def _loaded(pem: bytes, name: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise UnusableKeyring(f"{name}: is no certificate") from None


def _key(pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise UnusableKeyring(f"{name}: is no private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnusableKeyring(f"{name}: is a key of another kind than ours")
    return key


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return _spki(key.public_key())


def _public_of(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except ValueError:
        return b""
    return _spki(key) if isinstance(key, ec.EllipticCurvePublicKey) else b""


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _signed(leaf: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

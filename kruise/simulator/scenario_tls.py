"""Whether a client that trusts certain authorities would talk to a server with a certain certificate.

Purpose: there is no TLS in a simulation, and the question that rotations are about is there all the same.

Guarantees: a leaf is trusted when an authority of the bundle has signed it, and both are valid at the time of the call.

What this does not do: it checks no host name and no chain; our authorities sign leaves directly.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa


def why_untrusted(leaf: bytes, bundle: bytes, now: float) -> str:
    """Say why a client that trusts *bundle* would not trust *leaf*, both PEM; empty when it would."""
    problem = "certificate signed by unknown authority"
    for since, until in _signed(leaf, bundle):
        if since <= now <= until:
            return ""
        problem = "certificate has expired or is not yet valid"
    return problem


@lru_cache(maxsize=256)
def _signed(leaf: bytes, bundle: bytes) -> tuple[tuple[float, float], ...]:
    """Return when *leaf* is trusted, for each authority of *bundle* that has signed it."""
    if not bundle:
        return ()
    one = x509.load_pem_x509_certificate(leaf)
    found = []
    for authority in x509.load_pem_x509_certificates(bundle):
        if _has_signed(authority, one):
            since = max(authority.not_valid_before_utc, one.not_valid_before_utc)
            until = min(authority.not_valid_after_utc, one.not_valid_after_utc)
            found.append((_seconds(since), _seconds(until)))
    return tuple(found)


def _seconds(moment: datetime) -> float:
    return moment.astimezone(UTC).timestamp()


def _has_signed(authority: x509.Certificate, leaf: x509.Certificate) -> bool:
    key, algorithm = authority.public_key(), leaf.signature_hash_algorithm
    if authority.subject != leaf.issuer or algorithm is None:
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(leaf.signature, leaf.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
        else:
            return False
    except InvalidSignature:
        return False
    return True

"""The keyring: made, read, and followed by its successor; and the places where it is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kruise.runtime.errors import Conflict
from kruise.runtime.testing.loop import EPOCH, VirtualClock, run_virtual
from kruise.runtime.webhook.certs import DAY, FIELDS, CertificateRules, Keyring, UnusableKeyring, authorities, successor
from kruise.runtime.webhook.stores import DirectoryStore, SecretStore
from tests.unit.webhook.webhook_world import HOST, NAMESPACE, SECRET, World, trusted

RULES = CertificateRules((HOST, "10.0.0.7"))


def first(now: float = EPOCH) -> Keyring:
    return successor(None, RULES, now=now, published=False)[0]


def test_crt2_a_first_keyring_is_trusted_under_every_host() -> None:
    ring = first()
    assert trusted(ring.leaf.certificate, ring.pem, EPOCH) is None
    assert trusted(ring.leaf.certificate, ring.pem, EPOCH, "another.host") is not None
    assert Keyring.read(ring.data()) == ring


def test_f11_clocks_may_differ_by_a_day() -> None:
    ring = first()
    assert trusted(ring.leaf.certificate, ring.pem, EPOCH - DAY + 60) is None


@pytest.mark.parametrize("name", FIELDS[:4])
@pytest.mark.parametrize("how", ["missing", "garbage", "of another", "cut"])
def test_crt1_f11_a_torn_keyring_is_not_taken(name: str, how: str) -> None:
    data = first().data()
    if how == "missing":
        del data[name]
    else:
        data[name] = {"garbage": b"\x00\xffhello", "of another": first().data()[name], "cut": data[name][:60]}[how]
    with pytest.raises(UnusableKeyring, match=r"tls\.(crt|key)|ca\.(crt|key)") as raised:
        Keyring.read(data)
    assert "PRIVATE" not in str(raised.value)


def test_crt1_a_next_key_that_fits_nothing_is_not_taken() -> None:
    with pytest.raises(UnusableKeyring, match=r"ca-next\.key"):
        Keyring.read({**first().data(), "ca-next.key": first().data()["ca.key"]})


def test_log4_no_key_is_shown() -> None:
    assert "PRIVATE" not in repr(first())


def test_crt3_a_leaf_is_renewed_30_days_before_its_end() -> None:
    ring = first()
    assert ring.leaf.ends == EPOCH + 90 * DAY
    assert successor(ring, RULES, now=EPOCH + 60 * DAY - 1, published=True) == (ring, ())
    newer, news = successor(ring, RULES, now=EPOCH + 60 * DAY, published=False)
    assert news == ("a new certificate, in time",)
    assert newer.leaf.ends == EPOCH + 150 * DAY
    assert newer.bundle == ring.bundle


def test_crt3_the_next_authority_is_known_before_it_signs() -> None:
    ring = first()
    now = EPOCH + 185 * DAY
    ring, _ = successor(ring, RULES, now=now - DAY, published=True)
    both, news = successor(ring, RULES, now=now, published=True)
    assert "the next authority joined the bundle" in news
    assert both.bundle[:1] == ring.bundle
    assert len(both.bundle) == 2
    assert both.signer == ring.signer
    assert Keyring.read(both.data()) == both
    due = both.leaf.ends - RULES.renew_before
    waiting, _ = successor(both, RULES, now=due, published=False)
    assert waiting.signer == ring.signer, "not before everybody knows it"
    changed, news = successor(both, RULES, now=due, published=True)
    assert news == ("a new certificate, in time, of the next authority",)
    assert changed.upcoming is None
    assert changed.bundle == both.bundle, "the old one stays: others may still serve what it has signed"
    for leaf in (ring.leaf, changed.leaf):
        assert trusted(leaf.certificate, changed.pem, due) is None


def test_crt3_an_authority_leaves_at_its_own_end() -> None:
    ring = first()
    ring, _ = successor(ring, RULES, now=EPOCH + 185 * DAY, published=False)
    ring, _ = successor(ring, RULES, now=EPOCH + 250 * DAY, published=True)
    old = ring.bundle[0]
    assert ring.signer.certificate != old
    ring, _ = successor(ring, RULES, now=EPOCH + 364 * DAY, published=True)
    assert old in ring.bundle
    ring, news = successor(ring, RULES, now=EPOCH + 366 * DAY, published=True)
    assert old not in ring.bundle
    assert "an authority that has ended left the bundle" in news


def test_crt3_no_leaf_outlives_its_authority_and_there_is_always_one() -> None:
    """Nobody ever publishes: the successor is taken at the last moment, and not sooner."""
    ring, now, changes = first(), EPOCH, 0
    while now < EPOCH + 3 * 365 * DAY:
        now += DAY / 2
        before = ring
        ring, _ = successor(ring, RULES, now=now, published=False)
        changes += ring.signer != before.signer
        assert now < ring.leaf.ends <= ring.signer.ends
        assert trusted(ring.leaf.certificate, ring.pem, now) is None
    assert changes == 4


def test_crt3_another_host_needs_another_leaf_at_once() -> None:
    ring = first()
    other, news = successor(ring, CertificateRules((HOST, "laptop.example")), now=EPOCH + 1, published=False)
    assert news == ("a new certificate, for another host",)
    assert trusted(other.leaf.certificate, ring.pem, EPOCH + 1, "laptop.example") is None


def test_authorities_of_garbage_are_none() -> None:
    assert authorities(b"\n") == authorities(b"") == authorities(b"-----BEGIN") == ()


# Where it is kept.


async def test_crt2_a_directory_is_private_and_keeps_a_keyring(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "certs")
    empty = await store.read()
    assert empty.data == {}
    ring = first()
    ring, _ = successor(ring, RULES, now=EPOCH + 190 * DAY, published=False)
    await store.write(empty, ring.data())
    assert Keyring.read((await store.read()).data) == ring
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "certs").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "certs").stat().st_mode) == 0o700
    with pytest.raises(Conflict):
        await store.write(empty, first().data())
    await store.write(await store.read(), first().data())
    assert not (tmp_path / "certs" / "ca-next.key").exists()


def test_crt4_a_secret_is_written_on_the_version_that_was_read() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        store = SecretStore(world.client("a"), NAMESPACE, SECRET)
        other = SecretStore(world.client("b"), NAMESPACE, SECRET)
        one, two = await store.read(), await other.read()
        await store.write(one, first().data())
        with pytest.raises(Conflict):
            await other.write(two, first().data())
        world.server.edit("secrets", SECRET, lambda s: s["data"].update(mine="eA=="), NAMESPACE)
        held = await store.read()
        assert "mine" not in held.data
        assert "PRIVATE" not in repr(held)
        await store.write(held, first().data())
        assert world.secret()["mine"] == b"x", "what others keep there stays"

    run_virtual(main)


def test_crt2_a_secret_that_is_missing_is_created_once() -> None:
    async def main() -> None:
        world = World(VirtualClock(), secret=False)
        store = SecretStore(world.client("a"), NAMESPACE, SECRET)
        held = await store.read()
        await store.write(held, first().data())
        with pytest.raises(Conflict):
            await store.write(held, first().data())

    run_virtual(main)

"""Serving certificates: swapped in place, checked as a pair, never written."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kruise.runtime.clock import UTC
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import LIFETIME, LOOK_EVERY, RENEW_BEFORE, Pair, ServingCertificate, self_signed
from kruise.runtime.manager.http import Address, Call, HttpServer, Reply
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import EPOCH, VirtualClock, run_virtual


def write(folder: Path, pair: Pair) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    for name in ("tls.crt", "tls.key"):  # two writes within one tick of the file system must differ
        old = (folder / name).stat()
        os.utime(folder / name, ns=(old.st_atime_ns, old.st_mtime_ns + int.from_bytes(os.urandom(3)) + 1))


def content(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def serial(certificate: bytes | None) -> int:
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def serial_of(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate).serial_number


def rsa_pair() -> Pair:
    import datetime

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "rsa")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    raw = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), raw, 0.0)


def from_files(folder: Path, clock: VirtualClock, metrics: Metrics | None = None) -> ServingCertificate:
    return ServingCertificate.from_files(
        "metrics", folder / "tls.crt", folder / "tls.key", flag="--metrics-cert-path", clock=clock,
        metrics=metrics or Metrics(process=False),
    )  # fmt: skip


def client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def dial(server: HttpServer, name: str | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
    assert server.bound is not None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.bound.port, ssl=client(), server_hostname=name if name is not None else ""
    )
    return reader, writer, serial(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(3)
    return head.splitlines()[0]


async def ok(_call: Call) -> Reply:
    return Reply.text("ok")


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", [None, "metrics.example"])
async def test_crt1_a_rotation_drops_no_connection_and_serves_new_ones_the_new_pair(
    tmp_path: Path, name: str | None
) -> None:
    clock = VirtualClock()
    first, second = rsa_pair(), self_signed(["x"], now=EPOCH)  # an RSA key is followed by an elliptic curve
    write(tmp_path, first)
    certificate = from_files(tmp_path, clock)
    server = HttpServer("metrics", Address("127.0.0.1", 0), flag="--x", tls=certificate.context)
    server.route("/", ok)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        reader, writer, seen = await dial(server, name)
        assert seen == serial_of(first)
        write(tmp_path, second)
        assert certificate.refresh()
        reader2, writer2, seen = await dial(server, name)
        assert seen == serial_of(second)
        for pair in ((reader, writer), (reader2, writer2), (reader, writer)):
            assert b" 200 " in await ask(*pair)
        await close(writer, writer2)
        task.cancel()


async def test_crt1_rotations_under_load_fail_no_request(tmp_path: Path) -> None:
    clock = VirtualClock()
    write(tmp_path, self_signed(["x"], now=EPOCH))
    certificate = from_files(tmp_path, clock)
    server = HttpServer("metrics", Address("127.0.0.1", 0), flag="--x", tls=certificate.context)
    server.route("/", ok)
    seen: set[int] = set()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()

        async def load() -> None:
            for _ in range(5):
                reader, writer, number = await dial(server)
                seen.add(number)
                for _ in range(5):
                    assert b" 200 " in await ask(reader, writer)
                await close(writer)

        async with asyncio.TaskGroup() as loads:
            tasks = [loads.create_task(load()) for _ in range(4)]
            while not all(t.done() for t in tasks):
                write(tmp_path, self_signed(["x"], now=EPOCH))
                certificate.refresh()
                await asyncio.sleep(0.01)
        task.cancel()
    assert len(seen) > 1


def test_crt1_a_key_that_does_not_fit_keeps_the_last_good_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(clock: VirtualClock) -> None:
        metrics = Metrics(process=False)
        good, next_one = self_signed(["x"], now=EPOCH), self_signed(["x"], now=EPOCH)
        write(tmp_path, good)
        certificate = from_files(tmp_path, clock, metrics)
        write(tmp_path, Pair(next_one.certificate, good.key, 0.0))  # half of a write that is not atomic
        for _ in range(3):
            assert not certificate.refresh()
        assert serial_of(certificate.pair) == serial_of(good)
        (tmp_path / "tls.crt").write_bytes(b"not a certificate")
        assert not certificate.refresh()
        (tmp_path / "tls.key").unlink()
        assert not certificate.refresh()
        write(tmp_path, next_one)
        assert certificate.refresh()
        assert serial_of(certificate.pair) == serial_of(next_one)
        text = metrics.render().decode()
        assert "certwatcher_read_certificate_total 7.0" in text
        assert "certwatcher_read_certificate_errors_total 5.0" in text

    run_virtual(main)
    out = capsys.readouterr().err
    assert out.count("not usable") == 3, "once per state of the files"
    assert "PRIVATE KEY" not in out


def test_crt1_files_are_looked_at_every_ten_seconds(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        assert LOOK_EVERY == 10.0
        write(tmp_path, self_signed(["x"], now=EPOCH))
        certificate = from_files(tmp_path, clock)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(certificate.run())
            await clock.sleep(25)
            new = self_signed(["x"], now=EPOCH)
            write(tmp_path, new)
            await clock.sleep(4.9)
            assert serial_of(certificate.pair) != serial_of(new)
            await clock.sleep(0.2)
            assert serial_of(certificate.pair) == serial_of(new)
            task.cancel()

    run_virtual(main)


def test_crt1_a_mounted_secret_that_is_switched_by_a_link_is_seen(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        for name in ("one", "two"):
            write(tmp_path / name, self_signed(["x"], now=EPOCH))
        link = tmp_path / "..data"
        link.symlink_to("one")
        certificate = from_files(link, clock)
        before = serial_of(certificate.pair)
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(link)
        assert certificate.refresh() and serial_of(certificate.pair) != before

    run_virtual(main)


def test_crt5_with_files_nothing_is_written(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        write(tmp_path, self_signed(["x"], now=EPOCH))
        before = content(tmp_path)
        certificate = from_files(tmp_path, clock)
        clock.jump(LIFETIME)  # it has ended: somebody else must renew it
        async with asyncio.TaskGroup() as group:
            task = group.create_task(certificate.run())
            await clock.sleep(60)
            task.cancel()
        assert content(tmp_path) == before
        assert "ended" in (certificate.check() or "")

    run_virtual(main)


def test_crt5_the_seconds_until_the_end_are_a_metric(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        metrics = Metrics(process=False)
        write(tmp_path, self_signed(["x"], now=clock.now(), lifetime=1000.0))
        certificate = from_files(tmp_path, clock, metrics)
        assert "\nkruise_webhook_certificate_expiry_seconds 1000.0" in metrics.render().decode()
        clock.jump(900)
        assert "\nkruise_webhook_certificate_expiry_seconds 100.0" in metrics.render().decode()
        assert certificate.check() is None
        async with asyncio.TaskGroup() as group:
            task = group.create_task(certificate.run())
            await clock.sleep(1)
            task.cancel()
        assert "\nkruise_webhook_certificate_expiry_seconds " not in metrics.render().decode()

    run_virtual(main)


@pytest.mark.parametrize("break_it", ["absent", "garbage", "mismatch"])
def test_crt5_no_usable_pair_at_the_start_is_told_by_its_flag(tmp_path: Path, break_it: str) -> None:
    async def main(clock: VirtualClock) -> None:
        if break_it != "absent":
            write(tmp_path, self_signed(["x"], now=EPOCH))
        if break_it == "garbage":
            (tmp_path / "tls.crt").write_bytes(b"x")
        if break_it == "mismatch":
            (tmp_path / "tls.key").write_bytes(self_signed(["x"], now=EPOCH).key)
        with pytest.raises(ConfigError, match=r"--metrics-cert-path=.*tls\.crt and tls\.key are no usable pair"):
            from_files(tmp_path, clock)

    run_virtual(main)


def test_met5_the_self_signed_pair_is_made_in_memory_and_renewed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(clock: VirtualClock) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))  # a read-only root has no place for it
        certificate = ServingCertificate.in_memory(
            "metrics", ["localhost", "127.0.0.1"], clock=clock, metrics=Metrics(process=False)
        )
        first = x509.load_pem_x509_certificate(certificate.pair.certificate)
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
        assert certificate.seconds_left() == pytest.approx(90 * 86_400, abs=2)
        clock.jump(LIFETIME - RENEW_BEFORE - 100)
        assert not certificate.refresh()
        clock.jump(100)
        assert certificate.refresh()
        assert serial_of(certificate.pair) != first.serial_number
        assert certificate.seconds_left() == pytest.approx(LIFETIME, abs=2)
        assert "PRIVATE" not in repr(certificate.pair)

    run_virtual(main)


async def test_met5_tls_is_1_2_or_newer_over_http_1_1() -> None:
    certificate = ServingCertificate.in_memory("m", ["x"], clock=VirtualClock(), metrics=Metrics(process=False))
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2
    server = HttpServer("m", Address("127.0.0.1", 0), flag="--x", tls=certificate.context)
    server.route("/", ok)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        assert server.bound is not None
        context = client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", server.bound.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await close(writer)
        task.cancel()

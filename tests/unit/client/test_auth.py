"""auth.py: tokens that rotate, and a pod's own configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kruise.runtime.client.auth import ClientCertificate, ClusterConfig, StaticCredentials, TokenFile, in_cluster
from kruise.runtime.errors import ConfigError

SERVICE = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    monotonic = boottime = now

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def write(path: Path, text: bytes | str, *, mtime: int | None = None) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if mtime is not None:
        os.utime(path, ns=(mtime, mtime))


def write_in_place(path: Path) -> None:
    """Same inode, same size, same mtime: nothing shows."""
    with open(path, "r+b") as file:
        file.write(b" other\n\n")
    os.utime(path, ns=(1, 1))


async def bearer(token: TokenFile) -> str:
    return (await token.headers())["authorization"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "token", " first\n\n", mtime=1)
    return tmp_path / "token"


async def test_aut1_the_token_is_stripped_and_read_again_when_it_changes(path: Path) -> None:
    token = TokenFile(path, Hand())
    assert await bearer(token) == "Bearer first"
    write(path, "second\r\n", mtime=2)
    assert await bearer(token) == "Bearer second"


async def test_aut1_a_kubelet_link_to_a_file_of_the_same_age_is_a_change(path: Path, tmp_path: Path) -> None:
    token = TokenFile(path, Hand())
    write(tmp_path / "new", "other\n", mtime=1)
    os.replace(tmp_path / "new", path)
    assert await bearer(token) == "Bearer other"


async def test_aut1_every_60_s_the_file_is_read_in_any_case(path: Path) -> None:
    clock = Hand()
    token = TokenFile(path, clock)
    write_in_place(path)
    clock.time += 59
    assert await bearer(token) == "Bearer first"
    clock.time += 1
    assert await bearer(token) == "Bearer other"


@pytest.mark.parametrize("bad", [b"", b" \n", b"\xff\xfe", b"two words", b"a\nb"])
async def test_aut1_an_unusable_file_keeps_the_token_of_before(path: Path, bad: bytes) -> None:
    token = TokenFile(path, Hand())
    with capture_logs() as lines:
        write(path, bad, mtime=2)
        assert await bearer(token) == "Bearer first"
        assert not await token.refresh()
        assert await bearer(token) == "Bearer first"
        write(path, "third", mtime=3)
        assert await bearer(token) == "Bearer third"
    assert len(lines) == 1
    assert "first" not in str(lines)


async def test_aut1_a_missing_file_keeps_the_token_of_before(path: Path) -> None:
    clock = Hand()
    token = TokenFile(path, clock)
    os.unlink(path)
    assert await bearer(token) == "Bearer first"
    clock.time += 61
    assert await bearer(token) == "Bearer first"
    write(path, "back")
    assert await bearer(token) == "Bearer back"


async def test_aut3_refresh_reads_the_file_at_once(path: Path) -> None:
    token = TokenFile(path, Hand())
    write_in_place(path)
    assert await token.refresh()
    assert await bearer(token) == "Bearer other"


async def test_aut3_a_static_token_cannot_be_had_again() -> None:
    assert await StaticCredentials("abc").headers() == {"authorization": "Bearer abc"}
    assert not await StaticCredentials("abc").refresh()
    assert await StaticCredentials().headers() == {}


def test_aut1_a_start_without_a_token_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        TokenFile(tmp_path / "absent", Hand())


async def test_aut1_in_cluster_reads_what_a_pod_is_given(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "ca.crt", "PEM")
    write(tmp_path / "namespace", "kruise-system\n")
    config = in_cluster(Hand(), env=SERVICE, root=tmp_path)
    assert (config.host, config.namespace) == ("https://10.0.0.1:443", "kruise-system")
    assert config.ca_file == str(tmp_path / "ca.crt")
    write(path, "second", mtime=9)
    assert await config.credentials.headers() == {"authorization": "Bearer second"}
    assert config.host == "https://10.0.0.1:443"


def test_aut1_in_cluster_understands_ipv6_and_a_missing_namespace(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "ca.crt", "PEM")
    config = in_cluster(Hand(), env={**SERVICE, "KUBERNETES_SERVICE_HOST": "fd00::1"}, root=tmp_path)
    assert (config.host, config.namespace) == ("https://[fd00::1]:443", "default")


def test_aut1_outside_of_a_pod_the_error_says_what_to_do(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--kubeconfig"):
        in_cluster(Hand(), env={}, root=tmp_path)
    with pytest.raises(ConfigError, match=r"ca\.crt"):
        in_cluster(Hand(), env=SERVICE, root=tmp_path)


def test_log4_no_credential_shows_in_a_repr() -> None:
    config = ClusterConfig(
        "https://x",
        StaticCredentials("s3cret"),
        ca_data=b"s3cret",
        client_key_data=b"s3cret",
        proxy="http://u:s3cret@p",
    )
    assert "s3cret" not in repr(config) + repr(ClientCertificate(b"s3cret", b"s3cret"))

"""kubeconfig.py, execplugin.py, oidc.py: what a kubeconfig can say, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from kruise.runtime.client.auth import CertificateSource, ClusterConfig
from kruise.runtime.client.execplugin import ExecCredentials, ExecPlugin
from kruise.runtime.client.kubeconfig import from_kubernetes, load_config, load_kubeconfig, save_login
from kruise.runtime.client.oidc import OidcCredentials, OidcUser, expiry_of
from kruise.runtime.clock import format_time
from kruise.runtime.errors import ConfigError
from tests.unit.client.certs import Pair, authority, leaf
from tests.unit.client.server import Seen, Server, answer

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


class Hand:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    monotonic = boottime = now

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def document(user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "c", "cluster": {"server": "https://h:6443/", **(cluster or {})}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user or {}}],
        **rest,
    }


def write(path: Path, content: Any, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    path.chmod(mode)
    return str(path)


def read(path: str) -> Any:
    return yaml.safe_load(Path(path).read_text())


async def load(path: Path, content: Any, **options: Any) -> ClusterConfig:
    return await load_kubeconfig(Hand(), path=write(path / "config", content), env={}, **options)


async def authorization(config: ClusterConfig) -> str:
    return (await config.credentials.headers()).get("authorization", "")


# --- what stands in a file ---------------------------------------------------------------------------------------


async def test_aut2_every_field_of_a_cluster(tmp_path: Path) -> None:
    cluster = {
        "certificate-authority-data": b64("CA"),
        "certificate-authority": "ignored.crt",
        "tls-server-name": "api.internal",
        "proxy-url": "http://proxy:1",
        "insecure-skip-tls-verify": False,
    }
    user = {"client-certificate": "certs/c.crt", "client-key-data": b64("KEY")}
    content = document(user, cluster)
    content["contexts"][0]["context"]["namespace"] = "team"
    config = await load(tmp_path, content)
    assert (config.host, config.namespace, config.server_name) == ("https://h:6443", "team", "api.internal")
    assert (config.ca_data, config.ca_file) == (b"CA", "")
    assert (config.client_cert_file, config.client_cert_data) == (str(tmp_path / "certs/c.crt"), b"")
    assert (config.client_key_file, config.client_key_data) == ("", b"KEY")
    assert (config.proxy, config.insecure) == ("http://proxy:1", False)
    assert await authorization(config) == ""
    assert "main" in config.source and str(tmp_path) in config.source


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "abc\n"}, "Bearer abc"),
        ({"username": "me", "password": "pw"}, "Basic bWU6cHc="),
        ({"token": "abc", "tokenFile": "token"}, "Bearer from-file"),
        ({}, ""),
    ],
)
async def test_aut2_every_kind_of_plain_user(tmp_path: Path, user: dict[str, Any], header: str) -> None:
    write(tmp_path / "token", "from-file\n")
    assert await authorization(await load(tmp_path, document(user))) == header


async def test_aut2_a_token_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "token", "one")
    config = await load(tmp_path, document({"tokenFile": "token"}))
    write(tmp_path / "token", "three")
    assert await authorization(config) == "Bearer three"


async def test_aut2_files_are_merged_and_the_first_entry_wins(tmp_path: Path) -> None:
    first = document({"token": "one"})
    first["current-context"] = ""
    second = document({"token": "two"}, {"server": "https://other"}, **{"current-context": "extra"})
    second["contexts"].append({"name": "extra", "context": {"cluster": "c2", "user": "u2"}})
    second["clusters"].append({"name": "c2", "cluster": {"server": "https://c2", "certificate-authority": "ca"}})
    second["users"].append({"name": "u2", "user": {"token": "u2"}})
    third = {"current-context": "main", "users": None}
    paths = [write(tmp_path / name / "config", body) for name, body in (("a", first), ("b", second), ("c", third))]
    env = {"KUBECONFIG": os.pathsep.join([str(tmp_path / "absent"), *paths, ""])}
    config = await load_kubeconfig(Hand(), env=env)
    assert (config.host, await authorization(config)) == ("https://c2", "Bearer u2")
    assert config.ca_file == str(tmp_path / "b" / "ca")
    config = await load_kubeconfig(Hand(), env=env, context="main")
    assert (config.host, await authorization(config)) == ("https://h:6443", "Bearer one")


async def test_aut3_a_token_in_the_file_is_read_again_after_a_401(tmp_path: Path) -> None:
    config = await load(tmp_path, document({"token": "one"}))
    assert not await config.credentials.refresh()
    write(tmp_path / "config", document({"token": "two"}))
    assert await config.credentials.refresh()
    assert await authorization(config) == "Bearer two"
    write(tmp_path / "config", "{broken")
    assert not await config.credentials.refresh()
    assert await authorization(config) == "Bearer two"


BROKEN: list[tuple[Any, list[str]]] = [
    ("a: [b", ["is no YAML at line"]),
    ("just text", ["must be a mapping"]),
    ("", ["must be a mapping"]),
    ({**document(), "users": {"name": "u"}}, ["users must be a list"]),
    ({**document(), "clusters": [{"cluster": {}}]}, ["clusters must be a list of entries with a name"]),
    ({**document(), "current-context": ""}, ["current-context is not set"]),
    ({**document(), "current-context": "gone"}, ["contexts has no 'gone'", "there are: main"]),
    ({**document(), "contexts": []}, ["contexts has no 'main'", "there are: none"]),
    ({**document(), "contexts": [{"name": "main"}]}, ["contexts[name=main].context is missing"]),
    ({**document(), "contexts": [{"name": "main", "context": {"cluster": "x"}}]}, ["'x', which is not in clusters"]),
    ({**document(), "users": []}, ["'u', which is not in users"]),
    (document(cluster={"server": None}), ["clusters[name=c].cluster.server is missing"]),
    (document(cluster={"server": 5}), ["clusters[name=c].cluster.server must be a string, not int"]),
    (document(cluster={"certificate-authority-data": "%%"}), ["certificate-authority-data is no base64"]),
    (document(cluster={"insecure-skip-tls-verify": "yes"}), ["insecure-skip-tls-verify must be true or false"]),
    (document({"as": "admin"}), ["users[name=u].user.as", "impersonation"]),
    (document({"tokenFile": "absent"}), ["absent", "cannot be read"]),
    (document({"exec": []}), ["users[name=u].user.exec must be a mapping"]),
    (document({"exec": {"apiVersion": V1}}), ["exec: command is missing"]),
    (document({"exec": {"apiVersion": "v1alpha1", "command": "x"}}), ["apiVersion 'v1alpha1' is not supported", V1]),
    (document({"exec": {"apiVersion": V1, "command": "x", "args": "y"}}), ["exec.args must be a list"]),
    (document({"exec": {"apiVersion": V1, "command": "x", "env": ["y"]}}), ["exec.env must be a list"]),
    (
        document({"exec": {"apiVersion": V1, "command": "no-such-plugin", "installHint": "Get it there."}}),
        ["no-such-plugin is not to be found", "Get it there."],
    ),
    (document({"auth-provider": {"name": "gcp"}}), ["'gcp' was removed", "exec plugin"]),
    (document({"auth-provider": {"name": "oidc"}}), ["auth-provider.config is missing"]),
    (document({"auth-provider": {"name": "oidc", "config": {"client-id": "x"}}}), ["config.idp-issuer-url is missing"]),
    (
        document({"auth-provider": {"name": "oidc", "config": {"client-id": "x", "idp-issuer-url": "https://i"}}}),
        ["neither id-token nor refresh-token"],
    ),
]


@pytest.mark.parametrize(("content", "says"), BROKEN)
async def test_aut2_an_unusable_file_is_an_error_that_names_file_and_field(
    tmp_path: Path, content: Any, says: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        await load(tmp_path, content)
    for part in [*says, str(tmp_path)]:
        assert part in str(caught.value)


async def test_aut2_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent: no such file"):
        await load_kubeconfig(Hand(), path=str(tmp_path / "absent"), env={})
    with pytest.raises(ConfigError, match="cannot be read"):
        await load_kubeconfig(Hand(), path=str(tmp_path), env={})
    os.makedirs(tmp_path / "d")
    with open(tmp_path / "d" / "binary", "wb") as file:  # noqa: ASYNC230 - a test may block
        file.write(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no UTF-8"):
        await load_kubeconfig(Hand(), path=str(tmp_path / "d" / "binary"), env={})


async def test_aut2_where_the_cluster_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match=r"--kubeconfig is not given.*\.kube/config does not exist"):
        await load_config(Hand(), kubeconfig=None, context=None, env={})
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        await load_config(Hand(), kubeconfig=None, context=None, env=pod)
    write(tmp_path / ".kube" / "config", document({"token": "home"}))
    explicit = write(tmp_path / "explicit", document({"token": "explicit"}))
    listed = write(tmp_path / "listed", document({"token": "listed"}))

    async def found(kubeconfig: str | None, env: dict[str, str], context: str | None = None) -> str:
        return await authorization(await load_config(Hand(), kubeconfig=kubeconfig, context=context, env=env))

    assert await found(None, {}) == "Bearer home"
    assert await found(None, pod, "main") == "Bearer home"
    assert await found(None, {**pod, "KUBECONFIG": listed}) == "Bearer listed"
    assert await found(explicit, {**pod, "KUBECONFIG": listed}) == "Bearer explicit"


async def test_aut2_a_configuration_object_of_the_user_is_adapted() -> None:
    given = SimpleNamespace(
        host="https://h/", api_key={"BearerToken": "Bearer abc"}, ssl_ca_cert="/ca", cert_file=None, key_file=None,
        verify_ssl=False, tls_server_name="n", proxy="http://p:1",
    )  # fmt: skip
    config = from_kubernetes(given)
    assert (config.host, config.ca_file, config.insecure, config.server_name) == ("https://h", "/ca", True, "n")
    assert config.proxy == "http://p:1"
    assert await authorization(config) == "Bearer abc"


# --- exec plugins ------------------------------------------------------------------------------------------------


PLUGIN = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps({{"args": sys.argv[1:], "info": json.loads(os.environ["KUBERNETES_EXEC_INFO"]),
                           "extra": os.environ.get("EXTRA", "")}}) + "\\n")
sys.stderr.write("talking\\n")
sys.stdout.write(open({answer!r}).read())
sys.exit(int(open({code!r}).read()))
"""


class Plugin:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.command = folder / "plugin"
        self.clock = Hand()
        self.command.write_text(
            PLUGIN.format(
                python=sys.executable, log=str(self.log), answer=str(folder / "answer"), code=str(folder / "code")
            )
        )
        self.command.chmod(0o755)
        (folder / "code").write_text("0")

    def says(self, *, version: str = V1, ends_in: float | None = None, **status: Any) -> None:
        if ends_in is not None:
            status["expirationTimestamp"] = format_time(self.clock.time + ends_in)
        self.prints(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))

    def prints(self, text: str) -> None:
        (self.folder / "answer").write_text(text)

    def credentials(self, **options: Any) -> ExecCredentials:
        plugin = ExecPlugin(**{"api_version": V1, "command": str(self.command), "source": "config: exec", **options})
        return ExecCredentials(plugin, self.clock)

    @property
    def runs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


@pytest.mark.parametrize("version", [V1, V1BETA1])
async def test_aut2_a_plugin_is_run_as_the_kubeconfig_says(plugin: Plugin, version: str) -> None:
    plugin.says(token="abc", version=version)
    run = {
        "apiVersion": version,
        "command": "./plugin",
        "args": ["get-token", "--x"],
        "env": [{"name": "EXTRA", "value": "1"}],
        "provideClusterInfo": True,
        "interactiveMode": "Never",
    }
    config = await load(plugin.folder, document({"exec": run}, {"certificate-authority-data": b64("CA")}))
    assert await authorization(config) == "Bearer abc"
    (one,) = plugin.runs
    assert (one["args"], one["extra"]) == (["get-token", "--x"], "1")
    assert one["info"] == {
        "apiVersion": version,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {"server": "https://h:6443/", "certificate-authority-data": b64("CA")},
        },
    }


async def test_aut2_a_plugin_runs_once_for_fifty_calls_and_again_when_it_expires(plugin: Plugin) -> None:
    plugin.says(token="one", ends_in=600)
    credentials = plugin.credentials()
    answers = await asyncio.gather(*(credentials.headers() for _ in range(50)))
    assert {a["authorization"] for a in answers} == {"Bearer one"}
    plugin.clock.time += 599
    await credentials.headers()
    assert len(plugin.runs) == 1
    plugin.says(token="two")
    plugin.clock.time += 1
    answers = await asyncio.gather(*(credentials.headers() for _ in range(50)))
    assert {a["authorization"] for a in answers} == {"Bearer two"}
    plugin.clock.time += 1e6
    await credentials.headers()
    assert len(plugin.runs) == 2


async def test_aut3_a_plugin_runs_again_after_a_401_once_for_all(plugin: Plugin) -> None:
    plugin.says(token="one", ends_in=600)
    credentials = plugin.credentials()
    await credentials.headers()
    plugin.says(token="two", ends_in=600)
    assert all(await asyncio.gather(*(credentials.refresh() for _ in range(50))))
    assert (await credentials.headers())["authorization"] == "Bearer two"
    assert len(plugin.runs) == 2


@pytest.fixture(scope="module")
def ca() -> Pair:
    return authority()


def shown(pair: Pair) -> dict[str, str]:
    return {"clientCertificateData": pair.cert_pem.decode(), "clientKeyData": pair.key_pem.decode()}


async def test_aut2_an_expired_certificate_of_a_plugin_is_had_again(plugin: Plugin, ca: Pair) -> None:
    import datetime

    soon = datetime.datetime.fromtimestamp(plugin.clock.time + 100, datetime.UTC)
    first, second = leaf(ca, "one", end=soon), leaf(ca, "two")
    plugin.says(**shown(first), ends_in=9999)
    credentials = plugin.credentials()
    assert isinstance(credentials, CertificateSource)
    assert credentials.certificate() is None
    assert await credentials.headers() == {}
    brought = credentials.certificate()
    assert brought is not None and brought.certificate == first.cert_pem
    await credentials.refresh()
    assert credentials.certificate() is brought
    plugin.says(**shown(second), ends_in=9999)
    plugin.clock.time += 100
    await credentials.headers()
    fresh = credentials.certificate()
    assert fresh is not None and fresh.key == second.key_pem
    plugin.says(token="only", ends_in=1)
    await credentials.refresh()
    assert credentials.certificate() is None


SECRET = "s3cret-token"


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        (f"not json {SECRET}", "printed no ExecCredential in JSON"),
        (f'{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{"token":5, "x":"{SECRET}"}}}}', "in JSON"),
        (f'{{"apiVersion":"{V1BETA1}","kind":"ExecCredential","status":{{"token":"{SECRET}"}}}}', "make them equal"),
        (f'{{"apiVersion":"{V1}","kind":"ExecCredential"}}', "with a status"),
        (f'{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{}}}}', "neither a token nor a certificate"),
        (f'{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{"clientKeyData":"{SECRET}"}}}}', "without key"),
        (
            f'{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{"token":"{SECRET}","expirationTimestamp":"x"}}}}',
            "no RFC 3339",
        ),
        (
            json.dumps(
                {
                    "apiVersion": V1,
                    "kind": "ExecCredential",
                    "status": {"clientKeyData": SECRET, "clientCertificateData": SECRET},
                }
            ),
            "no PEM",
        ),
    ],
)
async def test_aut2_what_a_plugin_prints_wrong_is_said_and_not_shown(plugin: Plugin, printed: str, says: str) -> None:
    plugin.prints(printed)
    with pytest.raises(ConfigError, match=says) as caught:
        await plugin.credentials().headers()
    assert "config: exec" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_aut2_a_plugin_that_fails_is_quoted(plugin: Plugin) -> None:
    plugin.prints("")
    write(plugin.folder / "code", "3")
    with pytest.raises(ConfigError, match="ended with code 3: talking"):
        await plugin.credentials().headers()
    plugin.says(token="later")
    write(plugin.folder / "code", "0")
    credentials = plugin.credentials()
    assert (await credentials.headers())["authorization"] == "Bearer later"


async def test_aut2_a_plugin_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kruise.runtime.client.execplugin.RUN_TIMEOUT", 0.05)
    command = write(tmp_path / "slow", "#!/bin/sh\nexec sleep 60\n", 0o755)
    credentials = ExecCredentials(ExecPlugin(V1, command, source="config: exec"), Hand())
    with pytest.raises(ConfigError, match=r"has not ended after 0\.05 s"):
        await credentials.headers()


# --- oidc --------------------------------------------------------------------------------------------------------


def token(exp: float | None, mark: str) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"sub": mark} if exp is None else {"sub": mark, "exp": exp}
    return f"{part({'alg': 'none'})}.{part(claims)}.sig"


def test_aut2_the_end_of_an_id_token() -> None:
    assert expiry_of(token(17.0, "a")) == 17.0
    for text in ("", "a.b", "a.%%.c", "a.bm9uZQ.c", "a.W10.c", token(None, "a")):
        assert expiry_of(text) is None


class Provider:
    """An OpenID provider that rotates refresh tokens."""

    def __init__(self, clock: Hand) -> None:
        self.clock = clock
        self.forms: list[str] = []
        self.status = 200
        self.answer: dict[str, Any] | None = None
        self.server = Server(self.handle)

    async def handle(self, seen: Seen) -> bytes:
        if seen.target == "/.well-known/openid-configuration":
            return answer(200, json.dumps({"token_endpoint": f"{self.server.url()}/token"}).encode())
        assert seen.headers["authorization"] == f"Basic {b64('app:hush')}"
        self.forms.append(seen.body.decode())
        n = len(self.forms)
        said = {"id_token": token(self.clock.time + 300, f"n{n}"), "refresh_token": f"refresh-{n}"}
        return answer(self.status, json.dumps(said if self.answer is None else self.answer).encode())


def oidc_user(url: str, id_token: str, refresh: str = "refresh-0") -> dict[str, Any]:
    config = {"idp-issuer-url": url, "client-id": "app", "client-secret": "hush"}
    return {"auth-provider": {"name": "oidc", "config": {**config, "id-token": id_token, "refresh-token": refresh}}}


async def test_aut2_a_rotated_refresh_token_is_written_back(tmp_path: Path) -> None:
    clock = Hand()
    provider = Provider(clock)
    async with provider.server as server:
        path = write(tmp_path / "config", document(oidc_user(server.url(), token(clock.time + 60, "old"))), 0o640)
        config = await load_kubeconfig(clock, path=path, env={})
        assert provider.forms == []
        clock.time += 55
        answers = await asyncio.gather(*(config.credentials.headers() for _ in range(20)))
        assert len(provider.forms) == 1
        assert "refresh_token=refresh-0" in provider.forms[0]
        assert {a["authorization"] for a in answers} == {f"Bearer {token(clock.time + 300, 'n1')}"}
        saved = read(path)["users"][0]["user"]["auth-provider"]["config"]
        assert (saved["refresh-token"], saved["id-token"]) == ("refresh-1", token(clock.time + 300, "n1"))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        assert sorted(os.listdir(tmp_path)) == ["config"]
        again = await load_kubeconfig(clock, path=path, env={})
        assert await again.credentials.refresh()
        assert "refresh_token=refresh-1" in provider.forms[1]


async def test_aut3_a_refused_id_token_is_renewed_once_for_all(tmp_path: Path) -> None:
    clock = Hand()
    provider = Provider(clock)
    async with provider.server as server:
        config = await load_kubeconfig(
            clock,
            path=write(tmp_path / "config", document(oidc_user(server.url(), token(clock.time + 999, "old")))),
            env={},
        )
        assert all(await asyncio.gather(*(config.credentials.refresh() for _ in range(10))))
        assert len(provider.forms) == 1


async def test_aut2_a_provider_that_refuses_says_log_in_again(tmp_path: Path) -> None:
    clock = Hand()
    provider = Provider(clock)
    async with provider.server as server:
        provider.status = 400
        path = write(tmp_path / "config", document(oidc_user(server.url(), "")))
        with pytest.raises(ConfigError, match=r"refused the refresh token \(400\); log in again"):
            await load_kubeconfig(clock, path=path, env={})
        provider.status, provider.answer = 200, {}
        with pytest.raises(ConfigError, match="without an id_token"):
            await load_kubeconfig(clock, path=path, env={})
    with pytest.raises(ConfigError, match="gave no usable answer"):
        await load_kubeconfig(clock, path=path, env={})


async def test_aut2_an_expired_id_token_without_refresh_token_is_named(tmp_path: Path) -> None:
    clock = Hand()
    path = write(tmp_path / "config", document(oidc_user("https://i", token(clock.time - 5, "old"), "")))
    with pytest.raises(ConfigError, match="there is no refresh-token; log in again"):
        await load_kubeconfig(clock, path=path, env={})
    user = OidcUser("https://i", "app", id_token=token(clock.time + 500, "x"))
    assert not await OidcCredentials(user, clock, lambda *_: None).refresh()


async def test_aut2_a_login_that_cannot_be_saved_still_works() -> None:
    clock = Hand()
    provider = Provider(clock)

    def save(*_: str) -> None:
        raise PermissionError("read-only")

    async with provider.server as server:
        user = OidcUser(server.url(), "app", "hush", refresh_token="refresh-0", source="config")
        with capture_logs() as lines:
            headers = await OidcCredentials(user, clock, save).headers()
        assert headers["authorization"].startswith("Bearer ey")
        assert [line["event"] for line in lines] == [
            "renewed oidc login not saved, the next start may need a new log-in"
        ]


async def test_aut2_a_ca_of_the_provider_that_is_none_is_named() -> None:
    user = OidcUser("https://i", "app", refresh_token="r", ca_data=b"no pem", source="config")
    with pytest.raises(ConfigError, match="idp-certificate-authority"):
        await OidcCredentials(user, Hand(), lambda *_: None).headers()


def test_aut2_saving_for_a_user_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "config", document({"token": "x"}))
    before = Path(path).read_text()
    save_login(path, "other", "i", "r")
    assert Path(path).read_text() == before

"""Kubeconfig files.

Purpose: everything that a kubeconfig can say about a cluster and a user, as a :class:`ClusterConfig`.

Guarantees:

* AUT2: files of ``KUBECONFIG`` are merged (by ``kubernetes_asyncio``); token, tokenFile, basic, client certificate as
  data or file, exec plugins, OIDC. Relative paths are relative to the file in which they stand.
* AUT3: a 401 makes every kind of credential be read again, a token that stands in the file itself too.
* AUT4: ``kubernetes_asyncio`` is imported here alone, inside a function. It costs half a second and 60 MB, so only who
  has a kubeconfig pays. It merges and looks up; nothing is persisted through it, and its own exec and OIDC code is not
  used, because that caches nothing, runs a plugin per call, and does not check a provider's certificate.
* A kubeconfig that cannot be used is a ConfigError that names the file, the field and what to do.

What this does not do: impersonation (refused, not ignored), and the cloud auth-providers that Kubernetes removed.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from kruise.runtime.client.auth import ClusterConfig, Credentials, StaticCredentials, TokenFile, file_stamp, in_cluster
from kruise.runtime.client.execplugin import ExecCredentials, ExecPlugin
from kruise.runtime.client.oidc import OidcCredentials, OidcUser
from kruise.runtime.clock import Clock
from kruise.runtime.errors import ConfigError

_SECTIONS: Final = ("clusters", "contexts", "users")


def default_path() -> str:
    """Return where ``kubectl`` looks when nothing names a file."""
    return str(Path.home() / ".kube" / "config")


async def load_config(
    clock: Clock, *, kubeconfig: str | None, context: str | None, env: Mapping[str, str] = os.environ
) -> ClusterConfig:
    """Find the cluster: the explicit file, else ``KUBECONFIG``, else the pod's own account, else ``~/.kube/config``.

    May run an exec plugin, to find out at once when it does not work. Raises ConfigError, which says what was tried.
    """
    if kubeconfig or env.get("KUBECONFIG"):
        return await load_kubeconfig(clock, path=kubeconfig, context=context, env=env)
    if env.get("KUBERNETES_SERVICE_HOST") and not context:
        return in_cluster(clock, env=env)
    if file_stamp(default_path()) is not None:
        return await load_kubeconfig(clock, path=default_path(), context=context, env=env)
    raise ConfigError(
        f"no cluster is configured: --kubeconfig is not given, KUBECONFIG and KUBERNETES_SERVICE_HOST are not set, "
        f"{default_path()} does not exist; pass --kubeconfig=FILE"
    )


async def load_kubeconfig(
    clock: Clock, *, path: str | None = None, context: str | None = None, env: Mapping[str, str] = os.environ
) -> ClusterConfig:
    """Read a kubeconfig: *path*, else the list of ``KUBECONFIG``, else ``~/.kube/config``. Raises ConfigError.

    The first credential is had at once; that may run an exec plugin or ask an OIDC provider.
    """
    files = [path] if path else [f for f in env.get("KUBECONFIG", "").split(os.pathsep) if f] or [default_path()]
    chosen = _choose(files, context)
    config = _cluster_config(chosen, clock)
    await config.credentials.headers()
    return config


def from_kubernetes(configuration: Any) -> ClusterConfig:
    """Adapt a ``Configuration`` of the packages ``kubernetes`` or ``kubernetes_asyncio``, set up by the user."""
    keys = getattr(configuration, "api_key", None) or {}
    token = str(keys.get("BearerToken") or keys.get("authorization") or "")
    proxy = getattr(configuration, "proxy", None)
    return ClusterConfig(
        host=str(configuration.host).rstrip("/"),
        credentials=StaticCredentials(token.removeprefix("Bearer ").removeprefix("bearer ").strip()),
        ca_file=getattr(configuration, "ssl_ca_cert", None) or "",
        client_cert_file=getattr(configuration, "cert_file", None) or "",
        client_key_file=getattr(configuration, "key_file", None) or "",
        insecure=getattr(configuration, "verify_ssl", True) is False,
        server_name=getattr(configuration, "tls_server_name", None) or "",
        proxy=str(proxy) if proxy else None,
        source="a Configuration object",
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One named entry of a kubeconfig, with the place where it stands."""

    values: Mapping[str, Any]
    file: str
    where: str

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ConfigError(f"{self.file}: {self.where}.{field} must be a string, not {type(value).__name__}")
        return value

    def path(self, field: str) -> str:
        value = self.text(field)
        return str(Path(self.file).absolute().parent / Path(value).expanduser()) if value else ""

    def data(self, field: str) -> bytes:
        value = self.text(field)
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{self.file}: {self.where}.{field} is no base64") from None

    def child(self, field: str) -> _Entry | None:
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self.file}: {self.where}.{field} must be a mapping")
        return _Entry(value, self.file, f"{self.where}.{field}")

    def flag(self, field: str) -> bool:
        value = self.values.get(field, False)
        if not isinstance(value, bool | None):
            raise ConfigError(f"{self.file}: {self.where}.{field} must be true or false")
        return bool(value)


@dataclass(frozen=True, slots=True)
class _Chosen:
    cluster: _Entry
    user: _Entry | None
    user_name: str
    namespace: str
    files: tuple[str, ...]
    context: str


def _check(file: str) -> dict[str, Any] | None:
    """Read one file; ``None`` when it does not exist."""
    try:
        text = Path(file).read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(f"kubeconfig {file}: cannot be read: {reason}; check the path and its permissions") from error
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"kubeconfig {file}: is no YAML{line}; write it anew, or name another file") from None
    if not isinstance(read, dict):
        raise ConfigError(f"kubeconfig {file}: must be a mapping with clusters, contexts and users")
    for section in _SECTIONS:
        entries = read.get(section)
        if entries is not None and not (
            isinstance(entries, list) and all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries)
        ):
            raise ConfigError(f"kubeconfig {file}: {section} must be a list of entries with a name")
    return read


def _choose(files: list[str], wanted: str | None) -> _Chosen:
    files = [str(Path(f).expanduser()) for f in files]
    found = {f: read for f in files if (read := _check(f)) is not None}
    listed = os.pathsep.join(files)
    if not found:
        raise ConfigError(f"kubeconfig {listed}: no such file; pass --kubeconfig=FILE or correct KUBECONFIG")
    # The first file that sets it wins, as with kubectl.
    current = wanted or next((str(r["current-context"]) for r in found.values() if r.get("current-context")), "")
    if not current:
        raise ConfigError(f"kubeconfig {listed}: current-context is not set; pass --context or set it")
    merged = _merge(list(found))
    chosen = _find(merged, "contexts", current, listed)
    if chosen is None:
        names = ", ".join(sorted(name for name, _ in merged["contexts"])) or "none"
        raise ConfigError(f"kubeconfig {listed}: contexts has no {current!r}; there are: {names}")
    inner = chosen.child("context")
    if inner is None:
        raise ConfigError(f"{chosen.file}: {chosen.where}.context is missing")
    name = inner.text("cluster")
    cluster = _find(merged, "clusters", name, listed)
    body = cluster.child("cluster") if cluster is not None else None
    if body is None:
        raise ConfigError(f"{inner.file}: {inner.where}.cluster names {name!r}, which is not in clusters")
    user_name = inner.text("user")
    user = _find(merged, "users", user_name, listed) if user_name else None
    if user_name and user is None:
        raise ConfigError(f"{inner.file}: {inner.where}.user names {user_name!r}, which is not in users")
    return _Chosen(
        body,
        user.child("user") if user is not None else None,
        user_name,
        inner.text("namespace") or "default",
        tuple(files),
        current,
    )


def _merge(files: list[str]) -> dict[str, list[tuple[str, Any]]]:
    """Merge files with the client library: of entries of one name, the first counts."""
    from kubernetes_asyncio.config.kube_config import KubeConfigMerger

    merged = KubeConfigMerger(os.pathsep.join(files)).config
    assert merged is not None, "each file exists, so there is something to merge"
    return {section: [(node.value["name"], node) for node in merged.value[section]] for section in _SECTIONS}


def _find(merged: Mapping[str, list[tuple[str, Any]]], section: str, name: str, listed: str) -> _Entry | None:
    for key, node in merged[section]:
        if key == name:
            return _Entry(node.value, node.path or listed, f"{section}[name={name}]")
    return None


def _cluster_config(chosen: _Chosen, clock: Clock) -> ClusterConfig:
    cluster = chosen.cluster
    host = cluster.text("server").rstrip("/")
    if not host:
        raise ConfigError(f"{cluster.file}: {cluster.where}.server is missing; set it to https://HOST:PORT")
    user = chosen.user or _Entry({}, cluster.file, f"users[name={chosen.user_name}].user")
    ca_data = cluster.data("certificate-authority-data")
    cert_data = user.data("client-certificate-data")
    key_data = user.data("client-key-data")
    proxy = cluster.text("proxy-url")
    return ClusterConfig(
        host=host,
        credentials=_credentials(chosen, user, clock),
        ca_file="" if ca_data else cluster.path("certificate-authority"),
        ca_data=ca_data,
        client_cert_file="" if cert_data else user.path("client-certificate"),
        client_cert_data=cert_data,
        client_key_file="" if key_data else user.path("client-key"),
        client_key_data=key_data,
        insecure=cluster.flag("insecure-skip-tls-verify"),
        server_name=cluster.text("tls-server-name"),
        proxy=proxy or None,
        namespace=chosen.namespace,
        source=f"context {chosen.context} of {os.pathsep.join(chosen.files)}",
    )


def _credentials(chosen: _Chosen, user: _Entry, clock: Clock) -> Credentials:
    for field in ("as", "as-uid", "as-groups", "as-user-extra"):
        if user.values.get(field):
            # Ignored, it would act with more rights than the file grants.
            raise ConfigError(
                f"{user.file}: {user.where}.{field}: impersonation is not supported; use a user of its own"
            )
    run = user.child("exec")
    if run is not None:
        return ExecCredentials(_plugin(run, chosen.cluster), clock)
    provider = user.child("auth-provider")
    if provider is not None:
        return _oidc(provider, chosen, clock)
    if user.text("tokenFile"):
        return TokenFile(user.path("tokenFile"), clock)
    header = _inline(user)
    return (
        _Inline(header, lambda: _inline(_choose(list(chosen.files), chosen.context).user))
        if header
        else (StaticCredentials())
    )


def _inline(user: _Entry | None) -> str:
    if user is None:
        return ""
    if user.text("token"):
        return f"Bearer {user.text('token').strip()}"
    if user.text("username"):
        pair = f"{user.text('username')}:{user.text('password')}"
        return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return ""


class _Inline:
    """A token or password that stands in the kubeconfig: after a 401 the file may have a new one."""

    def __init__(self, header: str, read: Callable[[], str]) -> None:
        self._header = header
        self._read = read

    async def headers(self) -> Mapping[str, str]:
        return MappingProxyType({"authorization": self._header})

    async def refresh(self) -> bool:
        try:
            header = self._read()
        except ConfigError:
            return False
        changed = bool(header) and header != self._header
        if changed:
            self._header = header
        return changed


def _plugin(run: _Entry, cluster: _Entry) -> ExecPlugin:
    where = f"{run.file}: {run.where}"
    args = run.values.get("args") or []
    if not isinstance(args, list) or not all(isinstance(a, str) for a in args):
        raise ConfigError(f"{where}.args must be a list of strings")
    env = run.values.get("env") or []
    if not isinstance(env, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) and isinstance(e.get("value"), str) for e in env
    ):
        raise ConfigError(f"{where}.env must be a list of name and value")
    told: dict[str, Any] | None = None
    if run.flag("provideClusterInfo"):
        told = {"server": cluster.text("server")}
        for field in ("certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"):
            if cluster.values.get(field):
                told[field] = cluster.values[field]
        if "certificate-authority-data" not in told and cluster.path("certificate-authority"):
            told["certificate-authority-data"] = base64.b64encode(
                Path(cluster.path("certificate-authority")).read_bytes()
            ).decode("ascii")
    return ExecPlugin(
        api_version=run.text("apiVersion"),
        command=run.text("command"),
        args=tuple(args),
        env={e["name"]: e["value"] for e in env},
        install_hint=run.text("installHint"),
        interactive=run.text("interactiveMode") != "Never",
        cluster=told,
        directory=str(Path(run.file).absolute().parent),
        source=where,
    )


def _oidc(provider: _Entry, chosen: _Chosen, clock: Clock) -> OidcCredentials:
    where = f"{provider.file}: {provider.where}"
    name = provider.text("name")
    if name != "oidc":
        raise ConfigError(f"{where}: {name!r} was removed from Kubernetes; use the exec plugin of your provider")
    config = provider.child("config")
    if config is None:
        raise ConfigError(f"{where}.config is missing")
    for field in ("idp-issuer-url", "client-id"):
        if not config.text(field):
            raise ConfigError(f"{where}.config.{field} is missing")
    ca = config.data("idp-certificate-authority-data")
    if not ca and config.text("idp-certificate-authority"):
        try:
            ca = Path(config.path("idp-certificate-authority")).read_bytes()
        except OSError as error:
            raise ConfigError(f"{where}.config.idp-certificate-authority: cannot be read: {error.strerror}") from error
    user = OidcUser(
        issuer=config.text("idp-issuer-url"),
        client_id=config.text("client-id"),
        client_secret=config.text("client-secret"),
        id_token=config.text("id-token"),
        refresh_token=config.text("refresh-token"),
        ca_data=ca,
        source=where,
    )
    return OidcCredentials(
        user, clock, lambda id_token, refresh: save_login(config.file, chosen.user_name, id_token, refresh)
    )


def save_login(file: str, user: str, id_token: str, refresh_token: str) -> None:
    """Write a renewed OIDC log-in into *file*, in one step and with the same permissions. Raises OSError."""
    path = Path(file).resolve()
    read = yaml.safe_load(path.read_text("utf-8"))
    for entry in read.get("users") or ():
        if entry.get("name") == user:
            entry["user"]["auth-provider"]["config"].update({"id-token": id_token, "refresh-token": refresh_token})
            break
    else:
        return
    mode = path.stat().st_mode & 0o777
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            yaml.safe_dump(read, out, default_flow_style=False, sort_keys=False)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

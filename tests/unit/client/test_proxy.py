"""proxy.py: which proxy, asked once."""

from __future__ import annotations

import pytest

from kruise.runtime.client.proxy import resolve_proxy
from kruise.runtime.errors import ConfigError

API = "https://api.example.com:6443"


def url(host: str, env: dict[str, str], configured: str | None = None) -> str | None:
    proxy = resolve_proxy(host, configured=configured, env=env)
    return proxy.url if proxy else None


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": ".example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*.example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "no_proxy": "a.b, API.example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api.example.com:6443"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api.example.com:443"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "ample.com,10.0.0.0/8,,"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "bad/cidr"}, "http://proxy"),
    ],
)
def test_tra3_the_environment_means_what_it_means_to_kubectl(env: dict[str, str], found: str | None) -> None:
    assert url(API, env) == found


@pytest.mark.parametrize(
    ("host", "bypass", "direct"),
    [
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3:6443", "10.1.2.3:443", False),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://[fd00::5]:6443", "fd00::/16", True),
        ("https://[fd00::5]:6443", "fd00::5", True),
        ("https://localhost:6443", "", True),
        ("https://127.0.0.1:6443", "", True),
        ("https://[::1]:6443", "", True),
    ],
)
def test_tra3_addresses_and_this_machine(host: str, bypass: str, direct: bool) -> None:
    assert (url(host, {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": bypass}) is None) is direct


def test_tra3_the_kubeconfig_wins_and_can_say_none() -> None:
    env = {"HTTPS_PROXY": "http://proxy:1"}
    assert url(API, env, "https://own:8443") == "https://own:8443"
    assert url(API, env, "") is None
    assert url("http://api.example.com", {"http_proxy": "http://plain:1"}) == "http://plain:1"


def test_log4_a_proxy_password_leaves_the_url() -> None:
    proxy = resolve_proxy(API, configured="http://me:p%40ss@proxy:3128", env={})
    assert proxy is not None
    assert proxy.url == "http://proxy:3128"
    assert proxy.headers == {"Proxy-Authorization": "Basic bWU6cEBzcw=="}
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize("bad", ["socks5://proxy:1", "http://", "http://proxy:port"])
def test_tra3_an_unusable_proxy_is_named(bad: str) -> None:
    with pytest.raises(ConfigError, match="proxy-url"):
        url(API, {}, bad)

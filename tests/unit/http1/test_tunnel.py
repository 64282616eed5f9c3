"""The proxies of the environment."""

from __future__ import annotations

import pytest

from nexus.core.backend import parse_backend_url
from nexus.http1.tunnel import Proxy, proxy_for

CLOUD = parse_backend_url("https://api.example.com/v1")
ENVIRON = {"HTTPS_PROXY": "http://user:p%40ss@proxy.example:3128"}


def test_a_public_host_goes_through_the_proxy() -> None:
    """Host, port and credentials are the environment's."""
    assert proxy_for(CLOUD, ENVIRON) == Proxy("proxy.example", 3128, b"Basic dXNlcjpwQHNz")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8000",
        "https://10.1.2.3",
        "https://192.168.1.5",
        "https://100.64.0.1",
        "https://100.127.255.254",
        "https://[fe80::1%25eth0]:8000",
        "https://localhost",
        "https://gpu",
        "https://gpu.local",
        "https://gpu.lan",
    ],
)
def test_a_private_host_never_does(url: str) -> None:
    """The machine and its network are reached directly whatever the environment says."""
    assert proxy_for(parse_backend_url(url), ENVIRON) is None


@pytest.mark.parametrize(
    "listed", ["*", "api.example.com", "example.com", ".example.com", "x, *.example.com:443"]
)
def test_no_proxy_excepts_hosts_and_domains(listed: str) -> None:
    """``NO_PROXY`` lists hosts, domains, and a port where it says one."""
    assert proxy_for(CLOUD, {**ENVIRON, "NO_PROXY": listed}) is None


@pytest.mark.parametrize("listed", ["ample.com", "example.com:8443", "api.example.com.evil"])
def test_no_proxy_means_what_it_says(listed: str) -> None:
    """A part of a name, another port or a longer name is no match."""
    assert proxy_for(CLOUD, {**ENVIRON, "no_proxy": listed}) is not None


def test_the_scheme_chooses_the_variable() -> None:
    """``HTTPS_PROXY`` is not for http backends; ``ALL_PROXY`` is for both."""
    plain = parse_backend_url("http://api.example.com")
    assert proxy_for(plain, ENVIRON) is None
    assert proxy_for(plain, {"ALL_PROXY": "proxy:1"}) == Proxy("proxy", 1)


def test_another_kind_of_proxy_is_said() -> None:
    """SOCKS is not offered: the error says what would be."""
    with pytest.raises(ValueError, match="http://host:port"):
        proxy_for(CLOUD, {"https_proxy": "socks5://proxy:1080"})

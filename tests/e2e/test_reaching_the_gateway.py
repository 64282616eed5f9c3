"""Gateways that are reached in other ways: by the configuration, with a key, by TLS, by a Unix
socket. One of each, without a backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.e2e.stage import gateway_running, run_nexus

ADMIN = ("models", "stats", "top --once", "route explain --model x")


def test_by_the_configuration_with_a_key(tmp_path: Path) -> None:
    """A Unix socket and a key, both named by the file: commands beside it need nothing else. From
    elsewhere the key is told apart: missing, wrong, right."""
    settings = '[server]\nunix = "nexus.sock"\nadmin_key_env = "OWN_KEY"\n'
    with gateway_running(tmp_path, {}, settings=settings, OWN_KEY="sesame") as stage:
        beside = {"NEXUS_GATEWAY": "", "NEXUS_CONFIG": str(tmp_path / "gateway.toml")}
        for command in ("health", *ADMIN):
            done = stage.nexus(*command.split(), **beside, OWN_KEY="sesame")
            assert done.code == 0, done
        socket = {"NEXUS_GATEWAY": f"unix:{tmp_path / 'nexus.sock'}"}
        assert stage.nexus("health", **socket).code == 0
        for command in ADMIN:
            asked = command.split()
            missing = stage.nexus(*asked, **socket)
            assert (missing.code, missing.out) == (1, "")
            assert "NEXUS_ADMIN_KEY" in missing.err
            wrong = stage.nexus(*asked, **socket, NEXUS_ADMIN_KEY="open")
            assert (wrong.code, wrong.out) == (1, "")
            assert "is wrong" in wrong.err
            right = stage.nexus(*asked, **socket, NEXUS_ADMIN_KEY="sesame")
            assert right.code == 0
            assert "sesame" not in missing.err + wrong.err + right.out + right.err


def test_the_key_stays_on_this_machine(tmp_path: Path) -> None:
    """A configuration that happens to lie in the working directory cannot have the key sent to
    another machine, nor any variable that it calls the key."""
    (tmp_path / "nexus.toml").write_text(
        '[server]\nhost = "192.0.2.1"\nadmin_key_env = "SOMETHING"\n'
    )
    for key in ("SOMETHING", "NEXUS_ADMIN_KEY"):
        done = run_nexus(tmp_path, "stats", NEXUS_GATEWAY="", **{key: "sesame"})
        assert (done.code, done.out) == (1, "")
        assert "no address of this machine" in done.err
        assert "sesame" not in done.err


def test_by_tls(tmp_path: Path) -> None:
    """A certificate of an authority of one's own: --ca names it, --insecure does without, and
    beside the configuration neither is needed."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = '[server]\nport = 0\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n'
    with gateway_running(tmp_path, {}, settings=settings) as stage:
        assert stage.url.startswith("https://")
        for command in ("health", "stats", "route explain --model x"):
            asked = command.split()
            refused = stage.nexus(*asked)
            assert refused.code == 1
            assert "--ca FILE" in refused.err
            assert stage.nexus(*asked, "--ca", str(tmp_path / "ca.pem")).code == 0
            assert stage.nexus(*asked, "--insecure").code == 0
        port = stage.url.rpartition(":")[2]
        beside = stage.nexus(
            "stats",
            NEXUS_GATEWAY="",
            NEXUS_CONFIG=str(tmp_path / "gateway.toml"),
            NEXUS_PORT=port,
        )
        assert beside.code == 0, beside


def test_a_gateway_without_anything(tmp_path: Path) -> None:
    """Empty lists are sentences that say what to do."""
    with gateway_running(tmp_path, {}) as stage:
        assert "nexus backends add URL" in stage.nexus("backends", "list").out
        assert "no models" in stage.nexus("models").out
        assert stage.nexus("history").out == "no calls\n"
        assert "nexus backends add URL" in stage.nexus("top", "--once").out
        explained = stage.nexus("route", "explain", "--model", "x")
        assert explained.code == 0
        assert "No models available" in explained.out
        chat = stage.nexus("chat", "x", "Hi")
        assert chat.code == 1
        assert "No models available" in chat.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("serve --config absent.toml", "absent.toml"),
        ("config check absent.toml", "absent.toml"),
        ("serve --config bad.toml", "server.prot"),
        ("config check bad.toml", 'did you mean "port"?'),
        ("health", "server.prot"),
    ],
)
def test_a_configuration_with_problems(tmp_path: Path, command: str, said: str) -> None:
    """Named with file, key and nearest name, exit 1, by whoever would use it."""
    (tmp_path / "bad.toml").write_text("[server]\nprot = 1\n")
    done = run_nexus(tmp_path, *command.split(), NEXUS_CONFIG=str(tmp_path / "bad.toml"))
    assert (done.code, done.out) == (1, "")
    assert said in done.err

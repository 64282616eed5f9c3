"""How a command reaches the gateway: TLS, Unix sockets, and connections that go wrong."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from nexus.cli.address import find_address
from nexus.cli.main import main

HEALTH = b'{"status": "healthy", "backends": {"total": 1, "healthy": 1}, "models": 1}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(HEALTH), HEALTH)


class Peer:
    """Listens, and does the same to whoever connects; ``requests`` has what they said."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self.requests: list[bytes] = []
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._act(connection)
                except OSError:
                    continue

    def close(self) -> None:
        """Listens no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


Start = Callable[[Callable[[socket.socket], None]], Peer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts peers that end with the test."""
    peers: list[Peer] = []

    def begin(act: Callable[[socket.socket], None]) -> Peer:
        peers.append(Peer(act))
        return peers[-1]

    yield begin
    for peer in peers:
        peer.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Signs certificates."""
    return trustme.CA()


@pytest.fixture
def https(start: Start, authority: trustme.CA, tmp_path: Path) -> Peer:
    """A gateway with a certificate for another name than its address; ``cert.pem`` and ``ca.pem``
    are in the working directory."""
    certificate = authority.issue_cert("gateway.example.org")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def act(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            request = secure.recv(65536)
            if request:
                peer.requests.append(request)
                secure.sendall(ANSWER)

    peer = start(act)
    return peer


def health(runner: CliRunner, *arguments: str) -> tuple[int, str]:
    """Exit code and errors of ``nexus health``."""
    result = runner.invoke(main, ["health", *arguments])
    return result.exit_code, result.stderr


def test_an_unknown_authority_is_not_trusted(runner: CliRunner, https: Peer) -> None:
    """Nothing is sent to whom nobody vouches for; the error says both ways out."""
    code, said = health(runner, "--gateway", f"https://127.0.0.1:{https.port}")
    assert code == 1
    assert "is not trusted" in said
    assert "--ca FILE" in said
    assert "--insecure" in said
    assert https.requests == []


def test_an_authority_vouches_for_a_name(runner: CliRunner, https: Peer) -> None:
    """With --ca the certificate is trusted for its own name only; --insecure asks no name."""
    url = f"https://127.0.0.1:{https.port}"
    code, said = health(runner, "--gateway", url, "--ca", "ca.pem")
    assert code == 1
    assert "is not trusted" in said
    assert health(runner, "--gateway", url, "--insecure") == (0, "")


def test_an_authority_that_is_named(runner: CliRunner, start: Start, authority: trustme.CA) -> None:
    """With --ca and a fitting certificate all is well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path("ca.pem")

    def act(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(ANSWER)

    peer = start(act)
    arguments = ["--gateway", f"https://127.0.0.1:{peer.port}", "--ca", "ca.pem"]
    assert health(runner, *arguments) == (0, "")


def test_the_configured_gateway_is_known_by_its_certificate(
    runner: CliRunner, https: Peer, authority: trustme.CA
) -> None:
    """Whatever name is on it: the certificate of the configuration is the gateway's. Another one
    of the same authority is not, and is told nothing."""
    Path("nexus.toml").write_text(
        f'[server]\nport = {https.port}\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n'
    )
    assert health(runner) == (0, "")
    asked = len(https.requests)
    authority.issue_cert("gateway.example.org").cert_chain_pems[0].write_to_path("cert.pem")
    code, said = health(runner)
    assert (code, len(https.requests)) == (1, asked)
    assert "server.tls_cert" in said


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_is_none(
    runner: CliRunner, https: Peer, content: str | None
) -> None:
    """The file is named; no traceback."""
    if content is not None:
        Path("x.pem").write_text(content)
    code, said = health(runner, "--gateway", f"https://127.0.0.1:{https.port}", "--ca", "x.pem")
    assert code == 1
    assert "x.pem is no certificate that can be read" in said


def test_https_to_a_gateway_without(runner: CliRunner, start: Start) -> None:
    """https where http is spoken says so."""

    def act(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    code, said = health(runner, "--gateway", f"https://127.0.0.1:{start(act).port}")
    assert code == 1
    assert "it speaks http, not https" in said


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not a Nexus gateway"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "is not a Nexus gateway"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000, "is not a Nexus gateway"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "is not a Nexus gateway"),
    ],
)
def test_strange_peers(runner: CliRunner, start: Start, answer: bytes, told: str) -> None:
    """Whoever answers whatever: one line that says so, exit 1."""

    def act(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    code, said = health(runner, "--gateway", f"127.0.0.1:{start(act).port}")
    assert code == 1
    assert told in said
    assert len(said.splitlines()) == 1


def test_a_silent_peer(runner: CliRunner, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says nothing is given up on."""
    monkeypatch.setattr("nexus.cli.gateway.Gateway.get.__kwdefaults__", {"timeout_s": 0.05})
    # Until the command has given up and closed.
    peer = start(_until_closed)
    code, said = health(runner, "--gateway", f"127.0.0.1:{peer.port}")
    assert code == 1
    assert "did not answer within" in said


def _until_closed(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("written", ["unix:/run/x.sock", "unix:///run/x.sock"])
def test_a_unix_socket_by_its_path(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """--gateway and NEXUS_GATEWAY take the path of a socket, in both ways of writing it."""
    assert runner
    assert find_address(written).unix == "/run/x.sock"
    monkeypatch.setenv("NEXUS_GATEWAY", written)
    assert find_address(None).unix == "/run/x.sock"
    code, said = health(runner)
    assert code == 1
    assert "no gateway is running at unix:/run/x.sock" in said


def test_the_key_is_never_shown(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in a traceback tells no secret."""
    assert runner
    monkeypatch.setenv("NEXUS_ADMIN_KEY", "secret")
    address = find_address("http://x")
    assert address.admin_key == "secret"
    assert "secret" not in f"{address!r} {address}"


EVENT = b'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


@pytest.mark.parametrize(
    "rest", [b"", b"ff\r\ndata: {", b"zz\r\n", b"0\r\n\r\n"], ids=["gone", "cut", "bad", "ended"]
)
def test_a_gateway_that_dies_while_it_answers(runner: CliRunner, start: Start, rest: bytes) -> None:
    """What came is shown, and that it broke off is said; exit 1, no traceback."""

    def act(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD + CHUNK + rest)

    url = f"127.0.0.1:{start(act).port}"
    result = runner.invoke(main, ["chat", "m", "Hi", "--gateway", url])
    assert (result.exit_code, result.stdout) == (1, "Half\n")
    assert "broke off" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("zone", ["%eth0", "%25eth0"])
def test_a_link_local_address_keeps_its_zone(zone: str) -> None:
    """Without it nobody can connect there."""
    found = find_address(f"http://[fe80::1{zone}]:8000/base")
    assert found.url == "http://[fe80::1%eth0]:8000/base"

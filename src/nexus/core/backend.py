"""A backend: one running inference server, as configured and as last seen."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from nexus.core.model import Model

__all__ = [
    "Backend",
    "BackendSpec",
    "BackendStatus",
    "BackendUrl",
    "Continuation",
    "EngineKind",
    "EngineTraits",
    "FieldCopy",
    "Source",
    "Stopping",
    "parse_backend_url",
]


class EngineKind(StrEnum):
    """The program a backend runs; ``type`` in files and on the command line."""

    OLLAMA = "ollama"
    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    EXO = "exo"
    LMSTUDIO = "lmstudio"
    SGLANG = "sglang"
    OPENAI = "openai"
    GENERIC = "generic"


class Source(StrEnum):
    """How a backend became known. ``STATIC`` (config file) and ``MANUAL`` (command line, admin
    API) were named by the operator; the others were found."""

    STATIC = "static"
    MANUAL = "manual"
    SCAN = "scan"
    MDNS = "mdns"

    @property
    def named_by_operator(self) -> bool:
        """Whether a client's credentials may go there (behaviour § 2.3)."""
        return self in (Source.STATIC, Source.MANUAL)


class BackendStatus(StrEnum):
    """Where a backend stands. Only ``HEALTHY`` is routable."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class BackendUrl(msgspec.Struct, frozen=True):
    """A backend's address, taken apart once.

    ``base_path`` has no trailing slash and no ``/v1``; a request for the OpenAI path
    ``/v1/models`` goes to ``base_path + "/v1/models"``. ``query`` is the URL's own query without
    ``?``, sent along with every request.
    """

    scheme: str
    host: str
    port: int
    base_path: str = ""
    query: str = ""

    @property
    def tls(self) -> bool:
        """Whether the scheme is https."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """``host[:port]`` as the Host header wants it (RFC 9110 § 7.2): IPv6 in brackets, the
        scheme's default port left out."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        default = 443 if self.tls else 80
        return host if self.port == default else f"{host}:{self.port}"


def parse_backend_url(url: str) -> BackendUrl:
    """Takes a backend's URL apart: with or without ``/v1``, base path, query, trailing slash.

    Raises ``ValueError`` with a sentence that says what is wrong.
    """
    if any(ch.isspace() or ord(ch) < 0x20 or ord(ch) == 0x7F for ch in url):
        raise ValueError(f"URL {url!r} holds white space or control characters")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"URL {url!r} must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("URL must not hold a user or password; use api_key_env or headers")
    if parts.fragment:
        raise ValueError(f"URL {url!r} must not have a fragment")
    try:
        port = parts.port
        host = parts.hostname
    except ValueError as error:
        raise ValueError(f"URL {url!r}: {error}") from None
    if not host:
        raise ValueError(f"URL {url!r} has no host")
    if port == 0:
        raise ValueError(f"URL {url!r}: port 0 is not an address")
    address, zone, name = host.partition("%25")
    if zone and name and ":" in address:
        host = f"{address}%{name}"  # RFC 6874 § 2: how a URL writes the zone of fe80::1%eth0
    path = parts.path.rstrip("/")
    if path == "/v1" or path.endswith("/v1"):
        path = path[:-3].rstrip("/")
    return BackendUrl(
        scheme=parts.scheme,
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        base_path=path,
        query=parts.query,
    )


class BackendSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a backend before asking it: configuration, or what discovery saw.

    ``engine`` is ``None`` until found out. ``api_key`` is a secret: it is masked in every view.
    ``models`` names models to serve whether or not the engine lists them; ``model_names`` maps a
    served name to the engine's own. A ``*_timeout_s`` of ``None`` means the server-wide one.
    ``max_concurrency`` 0 means no limit.
    """

    name: str
    url: str
    engine: EngineKind | None = None
    source: Source = Source.STATIC
    priority: int = 50
    max_concurrency: int = 0
    api_key: str = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    zone: str = ""
    tier: int = 0
    models: tuple[str, ...] = ()
    model_names: dict[str, str] = {}
    connect_timeout_s: float | None = None
    first_byte_timeout_s: float | None = None
    request_timeout_s: float | None = None
    stream_idle_timeout_s: float | None = None
    tls_ca: str = ""
    tls_verify: bool = True
    forward_authorization: bool | None = None

    def __repr__(self) -> str:
        """Without secrets: key, headers and query values stay out of logs and tracebacks."""
        engine = self.engine.value if self.engine else "unknown"
        url = self.url.partition("?")[0]
        return f"BackendSpec({self.name!r}, {url!r}, engine={engine}, source={self.source.value})"

    @property
    def forwards_credentials(self) -> bool:
        """Whether the client's own credentials reach this backend (behaviour § 2.3)."""
        if self.api_key:
            return False
        if self.forward_authorization is not None:
            return self.forward_authorization
        return self.source.named_by_operator


class FieldCopy(msgspec.Struct, frozen=True):
    """A request edit that an engine needs: give it ``target`` with the value of ``field`` when the
    client sent ``field`` alone (behaviour § 2.1, "a field that the engine would misread")."""

    field: str
    target: str


class Stopping(StrEnum):
    """Whether an engine ends a generation whose client has hung up."""

    ALWAYS = "always"
    STREAMS = "streams only"
    """A plain (unstreamed) call may run on to its end."""
    UNKNOWN = "unknown"


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is made to go on with a partial assistant message, the last of ``messages``.

    ``fields`` are the request fields that it needs besides. ``may_echo``: the answer may begin with
    the partial text again, which whoever joins the two must take off. ``by_template``: some models'
    templates close the message instead, and a new answer begins.
    """

    fields: tuple[tuple[str, bool], ...] = ()
    may_echo: bool = False
    by_template: bool = False


class EngineTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What all servers of one engine have in common, as far as routing and relaying care.

    ``ignored_fields``: request fields it drops without a word. ``field_copies``: edits it needs.
    ``dropped_headers``: lower-case names it misreads. ``truncates_prompts``: cuts a prompt that
    exceeds the window without an error. ``refuses_long_output``: refuses a request whose requested
    output exceeds the window together with the prompt, ``refuses_output_over_window`` one whose
    requested output alone does. ``stop_for_tool_calls``: ends streamed tool calls with
    ``finish_reason: "stop"``. ``idle_s``: how long a pooled connection may idle, seconds.
    ``cloud``: not a machine of the operator's own. ``paths``: the OpenAI paths it serves, empty for
    unknown (any). ``continuation``: how it goes on with a partial answer, ``None`` for not at all
    or unknown. ``stopping``: whether it stops when the client hangs up.
    """

    ignored_fields: frozenset[str] = frozenset()
    field_copies: tuple[FieldCopy, ...] = ()
    dropped_headers: frozenset[bytes] = frozenset()
    truncates_prompts: bool = False
    refuses_long_output: bool = False
    refuses_output_over_window: bool = False
    stop_for_tool_calls: bool = False
    idle_s: float = 4.0
    cloud: bool = False
    paths: frozenset[str] = frozenset()
    continuation: Continuation | None = None
    stopping: Stopping = Stopping.UNKNOWN


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend as the registry knows it at one moment.

    ``reason`` says why it has its status. ``capacity`` is learned (soft): how many requests it
    runs at once. ``last_check_at_s`` is Unix time; ``last_check_ms`` how long the check took.
    """

    spec: BackendSpec
    address: BackendUrl
    engine: EngineKind
    traits: EngineTraits
    status: BackendStatus = BackendStatus.UNKNOWN
    reason: str = "not checked yet"
    engine_version: str | None = None
    models: tuple[Model, ...] = ()
    capacity: int | None = None
    last_check_at_s: float | None = None
    last_check_ms: float | None = None
    last_check_error: str | None = None

    @property
    def name(self) -> str:
        """The stable, unique name."""
        return self.spec.name

    @property
    def routable(self) -> bool:
        """Healthy and not draining."""
        return self.status is BackendStatus.HEALTHY

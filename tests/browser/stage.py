"""What the browser tests stand on: engines and traffic on a loop of their own, the gateway as a
process, a real browser."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import shutil
import threading
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self, TypeVar

import httpx
import uvloop
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

from nexus.demo.engine import FakeEngine
from tests.process import NexusProcess

__all__ = ["CHROMIUM", "DEADLINE_S", "Screen", "Stage", "launched"]

T = TypeVar("T")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DEADLINE_S = 15.0
_HEALTH = "\n[health_check]\ninterval_seconds = 1\n\n"


class Stage:
    """Engines, a gateway in front of them, and clients. A context manager.

    With ``found`` the engines are not named but found by a scan, and wait for approval.
    ``settings`` is more text for the gateway's ``file``, ``environment`` what it finds set.
    """

    def __init__(
        self,
        folder: Path,
        engines: Sequence[FakeEngine] = (),
        *,
        settings: str = "",
        found: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.engines = list(engines)
        self.file = folder / "nexus.toml"
        self._settings = settings
        self._found = found
        self._environment = environment or {}
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._gateway: NexusProcess | None = None
        self._http: httpx.AsyncClient | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            for engine in self.engines:
                self.run(engine.start())
            self.file.write_text(self._settings + _HEALTH + self._backends())
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._http is not None:
            self.run(self._http.aclose())
        for engine in self.engines:
            self.run(engine.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def _backends(self) -> str:
        if self._found:
            ports = [engine.port for engine in self.engines]
            return f'[discovery]\nmdns = false\nscan_ports = {ports}\nauto_approve = "never"\n'
        tables = [
            f"[[backends]]\nname = {json.dumps(engine.name)}\nurl = {json.dumps(engine.url)}\n"
            f'type = "{engine.dialect}"\n'
            for engine in self.engines
        ]
        return "\n".join(tables)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` on the loop of engines and clients, and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    # --- the gateway ---

    def start(self) -> None:
        """Starts the gateway, again on the port it had, and waits for its backends."""
        port = self.url.rpartition(":")[2] or "0"
        environment = {"NEXUS_DISCOVERY__ENABLED": str(self._found).lower(), **self._environment}
        process = NexusProcess(
            "serve", "--config", str(self.file), "--port", port, environment=environment
        )
        self._gateway = process.__enter__()
        self.url = process.said("listening")["url"]
        named = 0 if self._found else len(self.engines)
        self.until(
            lambda: self.get("/health", key=None)["backends"]["healthy"] == named,
            "every named backend healthy",
        )

    def stop(self) -> None:
        """Ends the gateway at once, as a crash would."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.__exit__(None, None, None)

    def get(self, path: str, key: str | None = "") -> Any:
        """The JSON answer to a GET, as the command line would ask."""
        asked = urllib.request.Request(self.url + path)  # noqa: S310 - our own
        if key:
            asked.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(asked, timeout=DEADLINE_S) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())

    @staticmethod
    def until(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> float:
        """Waits until ``condition()`` is true; returns the seconds that took."""
        began_s = monotonic()
        while not condition():
            if monotonic() - began_s > timeout_s:
                raise AssertionError(f"not within {timeout_s:g} s: {what}")
            threading.Event().wait(0.02)
        return monotonic() - began_s

    # --- clients ---

    def call(self, model: str, **fields: Any) -> httpx.Response:
        """One chat completion."""
        return self.run(self._call(model, **fields))

    async def _call(
        self, model: str, *, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi there"}], **fields}
        if self._http is None:  # one for all calls: making one costs more than a call
            self._http = httpx.AsyncClient(timeout=DEADLINE_S, trust_env=False)
        return await self._http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers)

    @contextlib.contextmanager
    def traffic(self, *models: str, pause_s: float = 0.05) -> Iterator[None]:
        """Calls without end, one client per model, plain and streamed by turns."""
        clients = [
            asyncio.run_coroutine_threadsafe(self._client(model, pause_s), self._loop)
            for model in models
        ]
        try:
            yield
        finally:
            for client in clients:
                client.cancel()
            concurrent.futures.wait(clients, DEADLINE_S)

    async def _client(self, model: str, pause_s: float) -> None:
        turn = 0
        while True:
            with contextlib.suppress(httpx.HTTPError):  # the gateway may be restarting
                if turn % 3:
                    await self._call(model, stream=True, stream_options={"include_usage": True})
                else:
                    await self._call(model)
            turn += 1
            await asyncio.sleep(pause_s)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A headless browser with a profile of its own."""
    with sync_playwright() as playwright:
        flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(_FLAGS)
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=flags, timeout=30_000
        )
        try:
            yield browser
        finally:
            browser.close()


class Screen:
    """A page of the dashboard in a context of its own, and what went wrong on it.

    ``complaints`` are errors and warnings of the console (a page that breaks the policy complains
    there), ``strangers`` requests to anyone but the gateway: they are stopped.
    """

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 800}, **context}
        self.url = url
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._context = browser.new_context(**options)
        self._context.set_default_timeout(DEADLINE_S * 1000)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.route("**/*", self._asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, route: Route) -> None:
        asked = route.request.url
        if asked.startswith((self.url + "/", "data:")):
            route.fallback()
        else:
            self.strangers.append(asked)
            route.abort()

    def open(self, view: str = "overview") -> Page:
        """Opens a view, anew even if it is open, and waits until it is live."""
        address = f"{self.url}/#/{view}"
        if self.page.url == address:
            self.page.goto(f"{self.url}/#/{'backends' if view == 'models' else 'models'}")
        self.page.goto(address)
        self.page.wait_for_selector("#connection[data-state=live]")
        return self.page

    def text(self, selector: str) -> str:
        """The visible text of the first match."""
        return self.page.locator(selector).first.inner_text()

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> float:
        """Waits until ``condition()`` is true, letting the page live; returns the seconds."""
        began_s = monotonic()
        while not condition():
            if monotonic() - began_s > timeout_s:
                raise AssertionError(f"not within {timeout_s:g} s: {what}")
            self.page.wait_for_timeout(20)
        return monotonic() - began_s

    def wider_than_the_window(self) -> float:
        """By how many pixels the page scrolls sideways."""
        return float(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

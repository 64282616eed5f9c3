"""``nexus demo`` and ``nexus demo-engine``: look around without any model."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, cast, get_args

import click

from nexus.cli.failure import Failure
from nexus.demo.table import DialectName

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["demo", "demo_engine"]


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="PORT",
    help="Port to listen on; 0 takes any free one.",
)
def demo(port: int) -> None:
    """Run a gateway in front of two made-up engines, all in this process."""
    from nexus.runtime.demo import run

    sys.exit(run(port))


@click.command("demo-engine")
@click.option(
    "--type",
    "--dialect",
    "dialect",
    type=click.Choice(get_args(DialectName)),
    default="openai",
    show_default=True,
    help="Which engine to play.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Address to listen on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="PORT",
    help="0 takes any free one; the log tells which.",
)
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="A model to serve; repeatable."
)
@click.option("--name", default="demo", show_default=True, help="What it calls itself.")
@click.option(
    "--ttft", type=click.FloatRange(0), default=0.0, metavar="S", help="Seconds to the first token."
)
@click.option(
    "--tokens-per-second",
    type=click.FloatRange(0),
    default=0.0,
    metavar="R",
    help="Pace after that; 0 is as fast as possible.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="Length of an answer when the request names none.",
)
@click.option(
    "--answer-bytes",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Least size of an answer that is not streamed.",
)
def demo_engine(
    dialect: str,
    host: str,
    port: int,
    models: tuple[str, ...],
    name: str,
    ttft: float,
    tokens_per_second: float,
    tokens: int,
    answer_bytes: int,
) -> None:
    """Run one made-up engine until interrupted."""
    from nexus.demo.command import run_engine
    from nexus.demo.profile import Speed
    from nexus.telemetry.logs import configure_logging

    configure_logging()
    stop = asyncio.Event()
    engine = run_engine(
        dialect=cast("DialectName", dialect),
        models=models or ("demo-model",),
        host=host,
        port=port,
        name=name,
        settings=Speed(
            ttft_s=ttft,
            tokens_per_s=tokens_per_second,
            tokens=tokens,
            answer_bytes=answer_bytes,
        ),
        stop=stop,
    )
    try:
        _run_until_signalled(engine, stop)
    except OSError as error:
        raise Failure(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _run_until_signalled(work: Coroutine[object, object, None], stop: asyncio.Event) -> None:
    """Runs ``work``; SIGTERM and Ctrl-C ask it to stop by way of ``stop``."""
    import uvloop

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work

    uvloop.run(run())

"""The two engines of ``nexus demo``."""

from __future__ import annotations

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed

__all__ = ["demo_engines", "start_demo_engines"]


def demo_engines() -> list[FakeEngine]:
    """The engines, not yet started: ``demo-vllm`` (fast) and ``demo-ollama`` (slower, and the only
    one with a model that sees). Both serve ``demo-llama``, so that failover can be watched."""
    return [
        FakeEngine(
            dialect="vllm",
            name="demo-vllm",
            models=("demo-llama",),
            settings=Speed(ttft_s=0.08, tokens_per_s=60.0, tokens=40),
        ),
        FakeEngine(
            dialect="ollama",
            name="demo-ollama",
            models=("demo-llama", "demo-vision"),
            settings=Speed(ttft_s=0.25, tokens_per_s=25.0, tokens=40),
        ),
    ]


async def start_demo_engines() -> list[FakeEngine]:
    """Starts them on ports that the kernel chooses; whoever calls this stops them."""
    engines = demo_engines()
    started: list[FakeEngine] = []
    try:
        for engine in engines:
            await engine.start()
            started.append(engine)
    except OSError:
        for engine in started:
            await engine.stop()
        raise
    return engines

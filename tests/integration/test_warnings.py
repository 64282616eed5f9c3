"""``x-nexus-warning`` (behaviour § 5.1): an engine that cut the prompt without a word."""

from __future__ import annotations

from typing import Literal

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import chat, running

PATH = "/v1/chat/completions"


@pytest.mark.parametrize(("dialect", "warned"), [("ollama", True), ("llamacpp", False)])
async def test_a_prompt_that_was_cut_is_told(
    dialect: Literal["ollama", "llamacpp"], warned: bool
) -> None:
    """Usage far below the estimate, from an engine that truncates in silence: the answer says so,
    and it is counted; from one that never truncates it means nothing."""
    engine = FakeEngine(dialect=dialect, usage=(60, 5), context_length=65536)
    async with engine, running(engine) as gateway:
        answer = await gateway.client.post(PATH, json=chat(text="word " * 4000))
        assert answer.status_code == 200
        assert answer.headers.get("x-nexus-warning") == ("prompt-truncated" if warned else None)
        short = await gateway.client.post(PATH, json=chat())
        assert "x-nexus-warning" not in short.headers
        streamed = await gateway.client.post(
            PATH,
            json=chat(text="word " * 4000, stream=True, stream_options={"include_usage": True}),
        )
        assert streamed.status_code == 200
        await gateway.settled()
        page = (await gateway.client.get("/metrics")).text
        assert f"nexus_prompts_truncated_total {2.0 * warned}\n" in page

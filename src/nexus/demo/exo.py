"""exo 0.3.70's API, from its source (``src/exo/api``): it was not run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import msgspec

from nexus.demo.ask import Ask, Say
from nexus.demo.fastapi import FastApiDialect
from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.reply import EVENT, HeadStyle, Plain, Reply, Stream

__all__ = ["NOT_PLACED", "ExoDialect"]

_encode = msgspec.json.encode
_NODE = "node-0"
NOT_PLACED = "demo/known-but-not-placed"
"""A model that the list names and nothing runs."""


class ExoDialect(FastApiDialect):
    """exo: a list of all that it knows, the truth in ``/state``; comments before the first token,
    chunks of an object of their own, every answer ending its connection."""

    style: ClassVar[HeadStyle] = HeadStyle(own="server: hypercorn-h11\r\n", lower=True)
    owner: ClassVar[str] = "exo"
    lists_now: ClassVar[bool] = False
    closes: ClassVar[bool] = True
    stream_type: ClassVar[str] = "text/event-stream"

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        for path in ("/v1/completions", "/v1/embeddings"):
            del self.posts[path]
        self.posts["/place_instance"] = self.place
        self.gets |= {
            "/node_id": lambda _: self.page(_NODE),
            "/state": lambda _: self.page(self.state()),
        }
        for part in ("instances", "runners", "tasks"):
            self.gets[f"/state/{part}"] = partial(self.part_of_state, part)

    def is_inference(self, request: SeenRequest) -> bool:
        return super().is_inference(request) and request.path != "/place_instance"

    # -- models --------------------------------------------------------------------------------

    def models(self) -> dict[str, Any]:
        listing = super().models()
        listing["data"].append(self.model_entry(NOT_PLACED))
        return listing

    def model_entry(self, name: str) -> dict[str, Any]:
        can = ["text", *(["vision"] if self.profile.sees(name) else [])]
        return {
            **super().model_entry(name),
            "hugging_face_id": name,
            "name": name,
            "description": "",
            "context_length": self.profile.context_length,
            "tags": [],
            "supports_tensor": True,
            "storage_size_megabytes": 4_692,
            "tasks": ["TextGeneration"],
            "family": "llama",
            "quantization": "4bit",
            "base_model": name,
            "capabilities": can,
            "reasoning_dialect": "none",
            "is_custom": False,
        }

    def state(self) -> dict[str, Any]:
        """``/state``: an instance of every model, ready when it is loaded, and the work of now."""
        profile = self.profile
        instances: dict[str, Any] = {}
        runners: dict[str, Any] = {}
        for number, name in enumerate(profile.models):
            runner = f"runner-{number}"
            shards = {
                "modelId": name,
                "runnerToShard": {runner: {"PipelineShardMetadata": {}}},
                "nodeToRunner": {_NODE: runner},
            }
            identity = f"instance-{number}"
            instance = {"instanceId": identity, "shardAssignments": shards}
            instances[identity] = {"MlxRingInstance": instance}
            if name in profile.loaded:
                runners[runner] = {"RunnerRunning" if profile.running else "RunnerReady": {}}
            else:
                runners[runner] = {"RunnerLoading": {"layersLoaded": 1, "totalLayers": 32}}
        return {
            "instances": instances,
            "runners": runners,
            "tasks": self.tasks(),
            "nodeMemory": {_NODE: {"ramTotal": {"inBytes": 68_719_476_736}}},
            "topology": {"nodes": [_NODE], "connections": {}},
            "downloads": {},
        }

    def part_of_state(self, part: str, request: SeenRequest) -> Plain:
        """``/state/{part}``."""
        return self.page(self.state()[part])

    def tasks(self) -> dict[str, Any]:
        """What runs and what waits."""
        profile = self.profile
        states = ["Running"] * profile.running + ["Pending"] * profile.waiting
        return {
            f"task-{number}": {
                "TextGeneration": {
                    "taskId": f"task-{number}",
                    "taskStatus": state,
                    "instanceId": "instance-0",
                }
            }
            for number, state in enumerate(states)
        }

    def place(self, request: SeenRequest) -> Reply:
        """``POST /place_instance``; done at once here."""
        document = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        name = str(document.get("model_id") or "")
        if name not in self.profile.models:
            self.profile.models.append(name)
        self.profile.loaded.add(name)
        return self.page({"message": "Command received.", "commandId": str(uuid.uuid4())})

    def other_method(self, request: SeenRequest) -> Reply:
        """``DELETE /instance/{id}`` ends an instance."""
        number = request.path.removeprefix("/instance/instance-")
        models = self.profile.models
        if request.method == "DELETE" and number.isdecimal() and int(number) < len(models):
            self.profile.loaded.discard(models.pop(int(number)))
            return self.page({"message": "Command received.", "commandId": str(uuid.uuid4())})
        return self.no_method(request.path)

    def unknown_model(self, model: str) -> Plain | None:
        return self.error(404, f"No instance found for model {model}", "Not Found")

    # -- errors --------------------------------------------------------------------------------

    def error(
        self,
        status: int,
        message: str,
        kind: str = "",
        param: str | None = None,
        code: str | int | None = None,
    ) -> Plain:
        error = {"message": message, "type": kind or "Error", "param": param, "code": status}
        return Plain(status=status, body=_encode({"error": error}))

    def invalid(self, kind: str, where: list[str | int], why: str) -> Plain:
        """FastAPI's validation error."""
        wrong = {"type": kind, "loc": where, "msg": why, "input": {}}
        return Plain(status=422, body=_encode({"detail": [wrong]}))

    def bad_body(self, why: str) -> Plain:
        return self.invalid("json_invalid", ["body", 0], why)

    def no_messages(self) -> Plain:
        return self.invalid("missing", ["body", "messages"], "Field required")

    # -- answers -------------------------------------------------------------------------------

    def read(self, request: SeenRequest) -> Ask | Plain:
        ask = super().read(request)
        if isinstance(ask, Ask):
            ask.response_format = None
            self.profile.loaded.add(self.said_model(ask))  # it waits until the runners are ready
        return ask

    def tokens_wanted(self, ask: Ask) -> int | None:
        return ask.max_tokens if ask.max_tokens is not None else ask.max_output_tokens

    def chat_stream(self, head: dict[str, Any], ask: Ask, say: Say) -> Stream:
        """Chunks without null keys: the role in every delta, the usage always in the last one."""
        head["object"] = "chat.completion"

        def chunk(delta: dict[str, Any], **more: Any) -> bytes:
            choice = {"index": 0, "delta": {"role": "assistant", **delta}, **more.pop("last", {})}
            return EVENT % _encode({**head, "choices": [choice], **more})

        def pieces() -> Iterator[bytes]:
            if say.tool:
                return
            for piece in say.pieces():
                yield chunk({"content": piece})

        delta: dict[str, Any] = {"content": ""}
        if say.tool:
            call = {"index": 0, "id": self.call_id(), **self.call(say, say.arguments)}
            delta = {"tool_calls": [call]}
        last = chunk(delta, last={"finish_reason": say.finish}, usage=self.usage(say))
        return Stream(
            events=pieces(),
            tail=(last,),
            done=b"data: [DONE]\n\n",
            content_type=self.stream_type,
            opening=b": keep-alive\n\n",
        )

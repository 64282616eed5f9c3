"""llama-server in router mode, as captured: many models, each in a child of its own."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qs

import msgspec

from nexus.demo.ask import Ask
from nexus.demo.dialect import Handler
from nexus.demo.llamacpp import LlamaCppDialect
from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.reply import Plain, Reply

__all__ = ["LlamaRouterDialect"]


class LlamaRouterDialect(LlamaCppDialect):
    """The router: it lists unloaded models too, loads what is asked for, and wants a model's name
    for every page about one."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        for path in ("/slots", "/metrics"):
            self.gets[path] = partial(self.of_one, self.gets[path])
        self.gets["/props"] = self.props_page
        self.posts |= {
            "/models/load": lambda request: self.switch(request, on=True),
            "/models/unload": lambda request: self.switch(request, on=False),
        }

    def is_inference(self, request: SeenRequest) -> bool:
        return super().is_inference(request) and not request.path.startswith("/models/")

    def models(self) -> dict[str, Any]:
        entries = [self.model_entry(name) for name in self.profile.models]
        return {"data": entries, "object": "list"}

    def model_entry(self, name: str) -> dict[str, Any]:
        profile = self.profile
        loaded = name in profile.loaded
        total = profile.context_length * profile.slots
        args = ["llama-server", "--port", "0", "--alias", name]
        args += ["--ctx-size", str(total), "--parallel", str(profile.slots)]
        entry = super().model_entry(name) | {
            "aliases": [],
            "status": {
                "value": "loaded" if loaded else "unloaded",
                "args": args,
                "preset": f"[{name}]\nctx-size = {total}\n\n",
            },
            "source": "models_dir",
            "can_remove": False,
        }
        if not loaded:
            del entry["meta"]
        return entry

    def props_page(self, request: SeenRequest) -> Reply:
        """``/props``: the router's own, or with ``?model=`` those of a child."""
        name = _asked(request, "model")
        if name:
            return self.of_one(lambda _: self.page(self.props(name)), request)
        return self.page(
            {
                "role": "router",
                "max_instances": 4,
                "models_autoload": True,
                "model_alias": "llama-server",
                "model_path": "none",
                "default_generation_settings": {"params": None, "n_ctx": 0},
                "ui_settings": {},
                "build_info": "b1-demo",
                "cors_proxy_enabled": False,
            }
        )

    def of_one(self, page: Handler, request: SeenRequest) -> Reply:
        """A page about one model, whose name it wants; it loads the model unless told not to."""
        name = _asked(request, "model")
        if not name:
            return self.error(400, "model name is missing from the request")
        if name not in self.profile.models:
            return self.unknown_model(name)
        if _asked(request, "autoload") == "false" and name not in self.profile.loaded:
            return self.error(400, "model is not loaded")
        self.profile.loaded.add(name)
        return page(request)

    def switch(self, request: SeenRequest, *, on: bool) -> Reply:
        """``/models/load`` and ``/models/unload``."""
        document = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        name = str(document.get("model") or "")
        if name not in self.profile.models:
            return self.unknown_model(name)
        if on:
            self.profile.loaded.add(name)
        else:
            self.profile.loaded.discard(name)
        return self.page({"success": True})

    def knows(self, model: str) -> bool:
        return model in self.profile.models

    def unknown_model(self, model: str) -> Plain:
        return self.error(400, f"model '{model}' not found")

    def read(self, request: SeenRequest) -> Ask | Plain:
        ask = super().read(request)
        if isinstance(ask, Ask):
            self.profile.loaded.add(self.said_model(ask))
        return ask

    def said_model(self, ask: Ask) -> str:
        return ask.model if ask.model is not None else self.profile.models[0]


def _asked(request: SeenRequest, field: str) -> str:
    return parse_qs(request.query).get(field, [""])[0]

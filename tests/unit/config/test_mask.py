"""What is shown of a configuration holds no secret."""

from __future__ import annotations

import msgspec

from nexus.config.mask import MASK, masked
from nexus.config.schema import BackendConfig, Config


def test_secret_values_are_masked_and_names_are_shown() -> None:
    """Header values, query values and a URL's query are hidden; what names a key is not."""
    backend = BackendConfig(
        name="a",
        url="http://h/base?key=s3cret",
        api_key_env="GPU_KEY",
        headers={"X-Api-Key": "s3cret"},
        query={"key": "s3cret"},
    )
    shown = masked(Config(backends=(backend,)))
    assert "s3cret" not in msgspec.json.encode(shown).decode()
    (first,) = shown["backends"]
    assert first["url"] == f"http://h/base?{MASK}"
    assert first["headers"] == {"X-Api-Key": MASK}
    assert first["query"] == {"key": MASK}
    assert first["api_key_env"] == "GPU_KEY"


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    """Defaults read the same masked or not."""
    assert masked(Config()) == msgspec.to_builtins(Config())

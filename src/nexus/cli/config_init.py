"""``nexus config init``: a file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli.failure import Failure

__all__ = ["STARTER", "init"]

STARTER = """\
# Nexus: what this gateway should do. Everything has a default, so a file needs only what it
# changes; every setting is explained in docs/configuration.md.
#
#   nexus config check     says what is wrong with this file
#   nexus serve            runs the gateway with it
#   nexus config reload    has a running gateway read it again

[server]
host = "127.0.0.1"   # "0.0.0.0" lets other machines in; set admin_key_env, too, to manage it there
port = 8000
# admin_key_env = "NEXUS_ADMIN_KEY"    # the variable that holds the key of the admin API

[discovery]
enabled = true       # inference servers on this machine and in this network are found by themselves

# What is not found, or should have a name, a key or a priority of its own:
#
# [[backends]]
# name = "gpu"
# url = "http://192.168.1.20:8000"
# priority = 10                # lower is preferred; 50 unless said
# max_concurrency = 8          # calls at once; 0 = no limit
#
# [[backends]]
# name = "cloud"
# url = "https://api.openai.com"
# type = "openai"
# api_key_env = "OPENAI_API_KEY"
# priority = 90                # when nothing better can do it

# [routing.aliases]            # further names for models
# "gpt-4" = "llama3:70b"
#
# [routing.fallbacks]          # what to serve instead when nobody has it
# "llama3:70b" = ["qwen2:72b"]
"""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="nexus.toml")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def init(file: Path, force: bool) -> None:
    """Write a commented configuration FILE to start from (default: nexus.toml here)."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(STARTER)
    except FileExistsError:
        raise Failure(f"{file} exists already: --force replaces it") from None
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}") from None
    click.echo(f"wrote {file}: edit it, then start the gateway with `nexus serve`")

"""The real llama.cpp HTTP server (its own C++ code) out of the xllamacpp wheel, as a process.

``python -m tests.real.llamacpp_server FILE.gguf [--port N]`` prints its address once it answers and
runs until SIGTERM, or until its standard input ends: an instance never outlives who started it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

import xllamacpp


def main() -> None:
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--alias", default="nexus-tiny")
    parser.add_argument("--context", type=int, default=4096, help="tokens, shared among the slots")
    parser.add_argument("--slots", type=int, default=2, help="requests answered at a time")
    parser.add_argument("--embeddings", action="store_true")
    given = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.gguf
    params.model_alias = {given.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = given.port
    params.n_ctx = given.context
    params.n_parallel = given.slots
    if given.embeddings:
        params.embedding = True
        # A vector for the whole text, as OpenAI's API has it, not one for each token.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.endpoint_metrics = params.endpoint_slots = params.endpoint_props = True
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    stop.wait()


def _end_with_parent(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


if __name__ == "__main__":
    main()

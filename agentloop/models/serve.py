"""The embedded model's server: a child process that ends with its parent.

Enters: `python -m agentloop.models.serve MODEL.gguf --slots N --context TOKENS` with the API key in
`AGENTLOOP_SERVE_KEY`. Leaves: one JSON line on stdout, `{"url": "http://127.0.0.1:PORT"}`, once the
model answers; the end of stdin (its parent closed it, or died) ends the process.
Refuses to know: runs, prompts, items. It imports nothing of agentloop, so that it starts fast and a
crash in C++ takes no run down.

llama.cpp comes as `xllamacpp`. `GOMP_SPINCOUNT` must stand in the environment before this process
starts: libgomp reads it when it is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys


def main() -> int:
    """Serve one GGUF file until stdin ends."""
    parser = argparse.ArgumentParser(prog="agentloop.models.serve")
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens a slot")
    options = parser.parse_args()
    try:
        import xllamacpp
    except ImportError as error:
        hint = "install the system's libgomp1" if "libgomp" in str(error) else str(error)
        print(json.dumps({"error": f"`xllamacpp` does not load: {hint}"}), flush=True)
        return 1
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.api_keys = [os.environ["AGENTLOOP_SERVE_KEY"]]
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores()
    params.cache_ram_mib = 0  # slots suffice; this cache can mix up prompts (llama.cpp issue 27148)
    params.endpoint_slots = False
    params.endpoint_metrics = False
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        print(json.dumps({"error": f"llama.cpp does not load the model: {error}"}), flush=True)
        return 1
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # the C++ threads need no farewell; the parent is gone or has asked for the end


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())

"""The child's side of the embedded model: `python -m konstruct_mcp.providers.embedded.child`.

It serves one model with llama.cpp until its stdin ends. What it says and is told on stdin and stdout is described in
`server`. The only module that imports xllamacpp, and no other imports this one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from typing import Any

from konstruct_mcp.config.embedded import CONTEXT_TOKENS, GET_MODEL


def main() -> None:
    """Serves the model that stdin names until stdin ends; says on stdout where, or why not."""
    # Whoever interrupts a whole process group means the parent, which decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Kept for the one answer; everything that writes to stdout from here on, C++ included, goes to stderr.
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.buffer.readline())
    watch = threading.Thread(target=_leave_with_the_parent, daemon=True)
    watch.start()
    answer: dict[str, str] = {}
    try:
        import xllamacpp  # type: ignore[import-untyped,import-not-found,unused-ignore]  # optional, and has no stubs

        server = xllamacpp.Server(_params(xllamacpp, order["model"], order["key"]))
        answer["address"] = server.listening_address
    except Exception as error:
        traceback.print_exc()
        answer["error"] = (
            "llama.cpp cannot load the model file: it is broken, of a kind it does not know, or too big for memory; "
            + GET_MODEL
            if isinstance(error, RuntimeError)
            # Its text may hold a path.
            else f"xllamacpp cannot be used here ({type(error).__name__}); pip install --upgrade xllamacpp"
        )
    with stdout:
        stdout.write(json.dumps(answer) + "\n")
    if "address" in answer:
        watch.join()  # llama.cpp serves in threads of its own


def _leave_with_the_parent() -> None:
    # Not sys.stdin: a thread that waits in its buffer makes the interpreter's own exit fail.
    os.read(0, 1)  # returns at the end of the file: nothing more is ever sent
    os._exit(0)  # nothing here is worth saving, and llama.cpp's threads would make a normal exit wait


def _params(xllamacpp: Any, model: str, key: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"embedded"}  # otherwise each answer's `model` is the file's path
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any that is free
    params.api_keys = [key]
    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # /metrics and changes of /props are off by default
    # One slot: a request has the whole window, others wait for their turn. Two slots with half the window each
    # refuse longer prompts; sharing one window they fail both when it is full (HTTP 500); with a window each they
    # double the memory and, since the processor is what limits them, answer no sooner.
    params.n_parallel = 1
    params.n_ctx = CONTEXT_TOKENS
    # Half of the processors. llama.cpp's threads wait for each other hundreds of times in each token, by spinning: with
    # a thread on each processor, one other busy process made 20 tokens take 15 s instead of 0.3 s.
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, processors // 2)
    params.n_batch = 512  # tokens between two looks at whether the caller is still there; 2048 can be half a minute
    # Where a request names no max_tokens. A small model that begins to repeat itself goes on until the window is full,
    # and the others wait.
    params.n_predict = CONTEXT_TOKENS // 2
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of earlier prompts
    params.warmup = False  # a second of work that the first request does anyway
    return params


if __name__ == "__main__":
    main()

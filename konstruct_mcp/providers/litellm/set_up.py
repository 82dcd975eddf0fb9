"""How LiteLLM is set up: what it reads of the environment when it is imported, and what it must not print or log."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any


def set_environment() -> None:
    """Set what LiteLLM and its HTTP libraries read from the environment when they are imported."""
    # The price map and the beta headers from its own package, not from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # Else a `.env` of a parent folder is loaded: a cloned repository must not be able to set keys or addresses.
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    # A company's proxy does not know this machine's loopback, where Ollama and the embedded model are.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")  # the lower case wins, as in HTTP libraries
    excepted = [*filter(None, map(str.strip, given.split(","))), "localhost", "127.0.0.1", "::1"]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(excepted))


def silence(litellm: Any) -> None:
    """Keep LiteLLM from printing, logging and warning; a failure is reported by us, in one line."""
    litellm.suppress_debug_info = True  # else it prints advice to stdout on errors
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs a traceback for every failed call
    # Of an answer with a field of the wrong type. It quotes the field, on stderr.
    warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
    # It makes most providers' coroutines in a thread, and drops one whose call has been cancelled meanwhile.
    dropped = r"coroutine '[\w.<>]+\.a(sync_)?completion\w*' was never awaited"
    warnings.filterwarnings("ignore", dropped, RuntimeWarning)

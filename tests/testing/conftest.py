"""LiteLLM itself, which the fakes are asked by."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        environment.setenv("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
        environment.setenv("LITELLM_MODE", "PRODUCTION")
        module = importlib.import_module("litellm")
        environment.setattr(module, "suppress_debug_info", True)
        yield module

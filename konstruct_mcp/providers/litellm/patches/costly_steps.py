"""Patches that leave out what LiteLLM does of each call beside asking the provider, and nobody here needs."""

from __future__ import annotations

import asyncio
import functools
import traceback
from collections.abc import Callable
from types import CoroutineType, SimpleNamespace
from typing import Any

from konstruct_mcp.providers.litellm.patches.wrapping import skip_for_ours
from konstruct_mcp.providers.litellm.provider_call import call_settings

# Coroutines that report how a call went; LiteLLM waits for none of them.
_LOGGING_COROUTINES = (
    *("async_service_success_hook", "async_service_failure_hook"),
    *("_client_async_logging_helper", "send_llm_exception_alert"),
)


def skip_logging() -> None:
    """Skip LiteLLM's logging and reporting of our calls, which takes four tasks for one answer.

    Nobody reads it, it takes milliseconds, and the answer would wait for it as soon as it waits for the ledger. Others
    in this process keep theirs.

    Wraps: the `asyncio.create_task` of `litellm.router`, `utils` and `logging_utils`, for four coroutines whose result
    nobody uses; `Logging.async_failure_handler`, `failure_handler` and `handle_sync_success_callbacks_for_async_calls`.
    Noticed by: `benchmarks/ledger.py`, milliseconds added.
    """
    from litellm import router, utils
    from litellm.litellm_core_utils import logging_utils
    from litellm.litellm_core_utils.litellm_logging import Logging

    def create_task(coroutine: CoroutineType[Any, Any, Any], **options: Any) -> asyncio.Task[Any] | None:
        if call_settings.get() is None or coroutine.__name__ not in _LOGGING_COROUTINES:
            return asyncio.create_task(coroutine, **options)
        coroutine.close()
        return None

    modules: list[Any] = [router, utils, logging_utils]
    for module in modules:
        module.asyncio = SimpleNamespace(**vars(asyncio) | {"create_task": create_task})

    async def nothing() -> None: ...

    loose: Any = Logging
    loose.async_failure_handler = skip_for_ours(loose.async_failure_handler, nothing)
    for name in ("failure_handler", "handle_sync_success_callbacks_for_async_calls"):
        setattr(loose, name, skip_for_ours(getattr(loose, name)))


def skip_tracebacks() -> None:
    """Skip the tracebacks of a failed call, which LiteLLM formats five times.

    Nobody reads them, and they are most of what a failed call costs, which in an outage is every call.

    Wraps: `traceback.format_exc` and `format_tb` in `litellm.router`, `utils`, `exception_mapping_utils` and
    `litellm_logging`.
    Noticed by: the processor time of a failing call, in an outage (`benchmarks/performance.py`).
    """
    from litellm import router, utils
    from litellm.litellm_core_utils import exception_mapping_utils, litellm_logging

    written = {
        "format_exc": skip_for_ours(traceback.format_exc, str),
        "format_tb": skip_for_ours(traceback.format_tb, list),
    }
    modules: list[Any] = [router, utils, exception_mapping_utils, litellm_logging]
    for module in modules:
        module.traceback = SimpleNamespace(**vars(traceback) | written)


def load_no_token_table() -> None:
    """Do not load a table of tokens, which takes 40 MB, for answers whose provider counts its tokens.

    Wraps: `litellm.main._get_encoding`.
    Noticed by: `test_start.py`, nothing heavy.
    """
    from litellm import main

    module: Any = main
    module._get_encoding = skip_for_ours(module._get_encoding, which=lambda settings: settings.on_loop)


def download_no_tokenizers() -> None:
    """Download no tokenizer to count the tokens of a Llama whose provider does not say them: the event loop would wait.

    LiteLLM has a table for all other models, which is used for these too.

    Wraps: `litellm.utils._select_tokenizer`.
    Noticed by: `test_complete.py`, no tokenizer.
    """
    from litellm import utils

    module: Any = utils
    select = module._select_tokenizer

    @functools.wraps(select)
    def selected(model: str, *args: Any, **kwargs: Any) -> Any:
        return select(model, *args, **kwargs) if call_settings.get() is None else module._return_openai_tokenizer(model)

    module._select_tokenizer = selected


def skip_openais_client() -> None:
    """Send OpenAI-format requests with the HTTP client that LiteLLM uses for most other formats.

    OpenAI's own client takes a quarter of a call's time, and a TLS context for each deployment.

    Wraps: `litellm.main.get_secret_bool`, which is asked for the setting.
    Noticed by: `test_start.py`, nothing heavy; `test_complete.py`, `TestEachProvider`; `test_fault_matrix.py`, of which
    one format goes either way.
    """
    import litellm
    from litellm import main

    module: Any = main
    get_secret_bool = module.get_secret_bool

    @functools.wraps(get_secret_bool)
    def secret_bool(name: str, *args: Any, **kwargs: Any) -> Any:
        settings = call_settings.get()
        if name == "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER" and settings is not None:
            # Where the program around us has configured OpenAI's client, that one is used.
            return settings.without_openais_client and not (
                litellm.aclient_session or litellm.organization or litellm.network_mock
            )
        return get_secret_bool(name, *args, **kwargs)

    module.get_secret_bool = secret_bool


def skip_prices() -> None:
    """Do not look up what an answer costs: `costs` reckons that.

    Wraps: `Logging._response_cost_calculator`.
    Noticed by: `test_prices.py`.
    """
    from litellm.litellm_core_utils.litellm_logging import Logging

    loose: Any = Logging
    loose._response_cost_calculator = skip_for_ours(loose._response_cost_calculator)


def prepare_on_loop() -> None:
    """Prepare requests on the event loop, not in a thread.

    The work takes half a millisecond and waits for nothing, and to hand it over and back costs as much again.

    Wraps: the `asyncio.get_event_loop` of `litellm.main`, whose `run_in_executor` prepares a request.
    Noticed by: `benchmarks/performance.py`, 50 calls at once.
    """
    from litellm import main

    module: Any = main

    class LoopWithoutThreads:
        """Stands in for the running loop; what should run in an executor runs at once."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop

        def __getattr__(self, name: str) -> Any:
            return getattr(self._loop, name)

        async def run_in_executor(self, executor: None, prepare: Callable[[], Any]) -> Any:
            return prepare()

    def get_event_loop() -> Any:
        loop, settings = asyncio.get_event_loop(), call_settings.get()
        return LoopWithoutThreads(loop) if settings is not None and settings.on_loop else loop

    module.asyncio = SimpleNamespace(**vars(asyncio) | {"get_event_loop": get_event_loop})

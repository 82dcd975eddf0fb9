"""Installs all patches of LiteLLM, once for a process."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from konstruct_mcp.providers.litellm.patches import (
    clients,
    costly_steps,
    logins,
    request_bodies,
    requests_sent,
    response_bounds,
)

# In this order: `requests_sent` wraps the same methods of httpx as `response_bounds`, around it.
PATCHES = (
    response_bounds.bound_responses,
    response_bounds.bound_google_tokens,
    requests_sent.note_requests,
    clients.send_once,
    clients.leave_idle_connections_alone,
    clients.keep_token_clients_to_the_address,
    clients.separate_clients,
    requests_sent.read_no_netrc,
    request_bodies.shape_bodies,
    request_bodies.write_gemini_calls_in_linear_time,
    request_bodies.send_no_settings,
    request_bodies.write_text_unescaped,
    request_bodies.inline_references_once,
    request_bodies.translate_responses_requests,
    costly_steps.skip_logging,
    costly_steps.skip_tracebacks,
    costly_steps.load_no_token_table,
    costly_steps.download_no_tokenizers,
    costly_steps.skip_openais_client,
    costly_steps.skip_prices,
    costly_steps.prepare_on_loop,
    logins.forbid_interactive_logins,
    logins.keep_azure_tokens,
    logins.separate_logins,
    logins.log_in_to_azure_v1,
    logins.skip_google_sdk,
)


def install() -> None:
    """Apply every patch; a second time does nothing."""
    from litellm import main

    module: Any = main
    if isinstance(module.asyncio, ModuleType):  # else `prepare_on_loop` was here before
        for patch in PATCHES:
            patch()

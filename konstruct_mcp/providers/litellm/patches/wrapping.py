"""What several patches are made with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from konstruct_mcp.providers.litellm.provider_call import CallSettings, call_settings


def skip_for_ours(
    function: Callable[..., Any],
    nothing: Callable[[], Any] = lambda: None,
    *,
    which: Callable[[CallSettings], bool] = lambda _: True,
) -> Callable[..., Any]:
    """Wrap a function so that calls of ours, or `which` of them, get what `nothing` returns in its place."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        settings = call_settings.get()
        return nothing() if settings is not None and which(settings) else function(*args, **kwargs)

    return wrapped

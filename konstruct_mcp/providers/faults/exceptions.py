"""What an exception out of LiteLLM holds: those that it was raised from, and the HTTP answer.

It goes no further than this package: it holds the key, the prompt and the provider's raw body.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, then the one that it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def response_of(chain: list[BaseException], answer: Any) -> Any:
    """The HTTP response that one of these exceptions carries; `answer` where none does."""
    for link in chain:
        response = getattr(link, "response", None)
        if type(link).__module__.split(".")[0] != "litellm" and hasattr(response, "status_code"):
            return response
    return answer


def is_unsupported(error: BaseException) -> bool:
    """Whether LiteLLM says that the model does not take a parameter."""
    return any(type(link).__name__ == "UnsupportedParamsError" for link in chain_of(error))


def litellms_message(error: BaseException) -> str:
    """LiteLLM's own message, without its advice to change its settings."""
    return str(getattr(error, "message", "")).rpartition("Error: ")[2].partition("To drop")[0]

"""How a refused request can be asked again: without a parameter, without the reasoning, or in another way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from konstruct_mcp.providers.faults.classification import http_fault
from konstruct_mcp.providers.faults.error_body import error_body
from konstruct_mcp.providers.faults.exceptions import chain_of, litellms_message, response_of
from konstruct_mcp.providers.faults.phrases import ABOUT_THE_CONVERSATION, REASONING_REFUSED, Phrase
from konstruct_mcp.providers.refused_parameters import TUNING, Way, named_in
from konstruct_mcp.routing.outcomes import Fault, FaultKind

_REFUSING = (400, 422, 500)  # 500 is llama.cpp's, where a model's chat template refuses the conversation


def refused_parameters(
    error: BaseException, passed: Collection[str], *, left: bool, answer: Any = None
) -> tuple[str, ...]:
    """The parameters that a call was refused for, of those that were passed.

    Args:
        left: whether a request may have left the process; if not, it was LiteLLM that refused.
        answer: the HTTP response that came last, if one did.
    """
    chain = list(chain_of(error))
    if not left:
        unsupported = next((link for link in chain if type(link).__name__ == "UnsupportedParamsError"), None)
        return () if unsupported is None else named_in(litellms_message(unsupported), passed)
    response = response_of(chain, answer)
    if response is None or response.status_code not in (400, 422):
        return ()
    said = error_body(response)
    if said.mentions(REASONING_REFUSED) or ABOUT_THE_CONVERSATION.search(said.param or said.message):
        return ()  # the conversation was refused, and not a parameter
    found = named_in(said.message, [name for name in passed if name in TUNING], said.param)
    if not found:
        return ()
    fault = http_fault(response.status_code, said, (), response.headers, ())
    return found if fault.kind in (FaultKind.UNFIT, FaultKind.REFUSED) else ()


def refused_reasoning(error: BaseException, *, left: bool, answer: Any = None) -> str:
    """The provider's message, where it refused the reasoning in the history as unreadable or missing; else empty."""
    response = response_of(list(chain_of(error)), answer)
    if not left or response is None or response.status_code not in _REFUSING:
        return ""
    said = error_body(response)
    return said.message if said.mentions(REASONING_REFUSED) else ""


# What providers say when they want to be asked in another way.
_WANTED_WAYS: tuple[tuple[Phrase, Way], ...] = (
    (Phrase(r"\buse .{0,3}max_completion_tokens"), "max_completion_tokens"),
    (
        Phrase(r"system (message|prompt|role)s?\b.{0,40}\b(beginning|first|start)\b", r"roles must alternate"),
        "system first",
    ),
)


def wanted_way(error: BaseException, answer: Any) -> Way | None:
    """The other way in which a provider that has refused a call says that it wants to be asked."""
    response = response_of(list(chain_of(error)), answer)
    if response is None or response.status_code not in _REFUSING:
        return None
    said = error_body(response)
    return None if said.is_about_a_field else next((way for words, way in _WANTED_WAYS if said.says(words)), None)


# `max_tokens` was too small: the model had begun and could not end, or the provider takes no such value.
_CUT_SHORT = Phrase(
    r"could not finish .{0,80}\b(max_\w*tokens|limit)",
    r"(max_\w*tokens|output limit).{0,40}\b(was |is |has been |were )?reached",
    r"max_\w*tokens\W.{0,60}(below (the )?minimum|at least|greater than( or equal to)?|>=|too (small|low))",
)


def is_cut_short(fault: Fault) -> bool:
    """Whether a fault says only that `max_tokens` was too small for an answer."""
    return fault.sent and _CUT_SHORT.search(fault.reason) is not None

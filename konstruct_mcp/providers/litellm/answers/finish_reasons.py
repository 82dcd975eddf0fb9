"""What providers' words for the end of an answer mean.

LiteLLM maps them to a few of its own, most of those that it does not know to "stop". An answer is called whole only
where it is known to be whole, so that the provider's own word is read.
"""

from __future__ import annotations

from collections.abc import Mapping

from konstruct_mcp.core.results import FinishReason
from konstruct_mcp.routing.outcomes import FaultKind

# The words of all providers, from their documentation and source, in lower case. A word that is not here is not known
# to be a proper end.
_STOP = "stop end_turn stop_sequence eos eos_token endoftext complete completed eosfound stopstringfound"
_TOOL_CALLS = "tool_calls function_call tool_use tool_call toolcalls"
_LENGTH = (
    "length max_tokens max_output_tokens model_length model_context_window_exceeded context_length_exceeded "
    "max_context_length token_limit not_finished incomplete compaction pause_turn error_limit repetition "
    "maxpredictedtokensreached contextlengthreached"
)
_CONTENT_FILTER = (
    "content_filter content_filtered refusal sensitive safety recitation blocklist prohibited_content spii "
    "image_safety image_prohibited_content image_recitation model_armor guardrail_intervened error_toxic blocked"
)
# The provider could not go on; the next try may succeed.
_SERVER_ERROR = (
    "error failed cancelled canceled abort aborted user_cancel userstopped timeout time_limit network_error "
    "insufficient_system_resource modelunloaded queued in_progress upstream_error"
)
# What the model has written cannot be used, or nobody says why it ended.
_BAD_ANSWER = (
    "malformed_function_call malformed_response malformed_model_output malformed_tool_use unexpected_tool_call "
    "too_many_tool_calls missing_thought_signature language other no_image image_other"
)
_MEANINGS: Mapping[str, FinishReason | FaultKind] = {
    **dict.fromkeys(_STOP.split(), "stop"),
    **dict.fromkeys(_TOOL_CALLS.split(), "tool_calls"),
    **dict.fromkeys(_LENGTH.split(), "length"),
    **dict.fromkeys(_CONTENT_FILTER.split(), "content_filter"),
    **dict.fromkeys(_SERVER_ERROR.split(), FaultKind.SERVER_ERROR),
    **dict.fromkeys(_BAD_ANSWER.split(), FaultKind.BAD_ANSWER),
}


def meaning_of(native: str | None) -> FinishReason | FaultKind | None:
    """What a provider's own finish reason means: ours, or the fault that the answer is.

    None where the word is missing or unknown.
    """
    return None if native is None else _MEANINGS.get(native.lower().replace("-", "_"))

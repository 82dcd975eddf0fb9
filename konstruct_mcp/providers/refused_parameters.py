"""Parameters that only tune an answer, and what deployments have refused of them.

Without a tuning parameter the answer is worded in another way; without any other (tools, a format, the output limit) it
is another answer. So a deployment that refuses a tuning parameter is asked again without it, and the refusal of any
other passes the request on to the next deployment.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

from konstruct_mcp.config.model import Deployment

TUNING = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop", "logit_bias", "logprobs"),
        *("top_logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort"),
        *("reasoning", "thinking", "think", "effort", "verbosity", "service_tier", "parallel_tool_calls", "prediction"),
        *("store", "user", "prompt_cache_key", "safety_identifier"),
    }
)
Way = Literal["max_completion_tokens", "system first"]
"""Another way of asking that a deployment may want: the output limit under its newer name, or one system message, at
the beginning."""
# Patterns of providers' own names for a parameter, where they have another than ours.
_OTHER_NAMES = {
    "stop": r"stop_?sequences",
    "logprobs": "responseLogprobs",
    "reasoning_effort": r"reasoning(?:[ .]?effort)?|output_config|thinking\w*|budget_tokens|effort",
    "thinking": r"reasoning(?:[ ._]?effort)?|output_config|thinking\w*|budget_tokens|effort",
    "think": "thinking",
}
# Names that are ordinary words too: the parameter is meant only where the word is quoted or followed by a colon.
_ORDINARY_WORDS = frozenset({"user", "stop", "store", "seed", "prediction"})
# Where the wording of a refusal goes on to its condition, which may name other parameters.
_CONDITION = re.compile(r"\b(?:when|unless|if|instead|because)\b|\. (?=[A-Z])", re.IGNORECASE)
# Refusals and ways that are kept, each: few are ever met, and one that was forgotten costs one request.
_MOST_REMEMBERED = 256


def named_in(text: str, passed: Collection[str], param: str = "") -> tuple[str, ...]:
    """Those of the passed parameters that a refusal is about.

    Args:
        text: the words of the refusal.
        passed: the names of the parameters that were sent.
        param: what the provider says in a field of its own that the refusal is about; looked at first.
    """
    for about in (param, _CONDITION.split(text, maxsplit=1)[0], text):
        if found := tuple(name for name in passed if _is_named(name, about)):
            return found
    return ()


def _is_named(name: str, text: str) -> bool:
    names = "|".join(filter(None, (re.escape(name).replace("_", "_?"), _OTHER_NAMES.get(name))))  # topP too
    if name in _ORDINARY_WORDS:
        written = rf"['\"`](?:{names})['\"`]|^(?:{names})$|(?<![\w.])(?:{names})[:=]"
    else:
        written = rf"(?<![\w.])(?:{names})(?!\w)"
    return re.search(written, text, re.IGNORECASE) is not None


class Refusals:
    """What deployments have refused, so that it is not sent to them again.

    Whether a parameter is refused may depend on its value and on the other parameters, so that all of these belong to a
    remembered refusal; and on the conversation, so that it is remembered for the tenant alone who was refused.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, frozenset[str]], tuple[str, ...]] = OrderedDict()
        self._ways: OrderedDict[tuple[str, str], tuple[Way, ...]] = OrderedDict()
        self._tenant = ""

    def to(self, tenant: str) -> Refusals:
        """The same memory, for the refusals that a tenant gets."""
        made = copy.copy(self)
        made._tenant = tenant
        return made

    def of_these(self, ids: Collection[str]) -> Refusals:
        """A copy for the next config, with what these deployments have refused."""
        made = Refusals()
        made._known.update((key, refused) for key, refused in list(self._known.items()) if key[0] in ids)
        made._ways.update((key, ways) for key, ways in list(self._ways.items()) if key[0] in ids)
        return made

    def of(self, deployment: Deployment, passed: Mapping[str, Any]) -> tuple[str, ...]:
        """The parameters that the deployment has refused when it was asked with all of these."""
        return _recalled(self._known, self._key(deployment, passed)) if self._known else ()

    def ways(self, deployment: Deployment) -> tuple[Way, ...]:
        """The other ways of asking in which the deployment has answered after a refusal."""
        return _recalled(self._ways, (deployment.id, self._tenant))

    def add(
        self, deployment: Deployment, passed: Mapping[str, Any], refused: Iterable[str], ways: Iterable[Way] = ()
    ) -> None:
        """Remember what the deployment refused when it was asked with all of these, and the ways in which it
        answered."""
        _add(self._known, self._key(deployment, passed), refused)
        _add(self._ways, (deployment.id, self._tenant), ways)

    def _key(self, deployment: Deployment, passed: Mapping[str, Any]) -> tuple[str, str, frozenset[str]]:
        return (
            deployment.id,
            self._tenant,
            frozenset(f"{name} {value!r}" if name in TUNING else name for name, value in passed.items()),
        )


_K = TypeVar("_K")
_V = TypeVar("_V")


def _recalled(table: OrderedDict[_K, tuple[_V, ...]], key: _K) -> tuple[_V, ...]:
    with contextlib.suppress(KeyError):  # not there, or another thread has just pushed it out
        table.move_to_end(key)
    return table.get(key, ())


def _add(table: OrderedDict[_K, tuple[_V, ...]], key: _K, more: Iterable[_V]) -> None:
    if all_ := tuple(dict.fromkeys((*table.get(key, ()), *more))):
        table[key] = all_
    while len(table) > _MOST_REMEMBERED:
        table.popitem(last=False)

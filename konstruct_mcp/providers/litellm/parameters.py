"""The parameters of a request that only tune its answer: which these are, which of them a refusal is about, and what
has been refused before.

Without one of these the answer is worded in another way; without any other (tools, a format, the longest answer) it is
another answer. So the first are left out where a deployment does not take them, and the rest passes on to the next.

Pure code: what was passed, and the words of whoever refused it.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.forms import SHAPED, allowed_by, not_taken

TUNING = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop", "logit_bias", "logprobs"),
        *("top_logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort"),
        *("reasoning", "thinking", "think", "effort", "verbosity", "service_tier", "parallel_tool_calls", "prediction"),
        *("store", "user", "prompt_cache_key", "safety_identifier"),
    }
)
# Ways of asking that a deployment may want; see `Passed.in_another_way`.
Way = Literal["max_completion_tokens", "system first"]
# Parameters of OpenAI's that LiteLLM takes by name, and refuses where it thinks that a model does not.
_OPENAIS = (TUNING - {"top_k", "min_p", "typical_p", "repetition_penalty", "reasoning", "effort"}) | {
    *("tools", "tool_choice", "response_format", "max_tokens", "max_completion_tokens", "modalities", "audio"),
    *("web_search_options", "prompt_cache_retention", "context_management"),
}
_KNOWN = TUNING | _OPENAIS
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})  # which a budget may stand on
# As providers call them in what they say, where that is not their name here.
_OTHER_NAMES = {
    "stop": r"stop_?sequences",
    "logprobs": "responseLogprobs",
    "reasoning_effort": r"reasoning(?:[ .]?effort)?|output_config|thinking\w*|budget_tokens|effort",
    "thinking": r"reasoning(?:[ ._]?effort)?|output_config|thinking\w*|budget_tokens|effort",
    "think": "thinking",
}
# Where in a provider's body it says how to think.
_THINKING = (
    *(("thinking",), ("reasoning",), ("reasoning_effort",), ("output_config", "effort"), ("prompt_mode",)),
    ("generationConfig", "thinkingConfig"),
    *(("additionalModelRequestFields", key) for key in ("thinking", "reasoning_effort", "reasoningConfig")),
    ("additionalModelRequestFields", "output_config", "effort"),
)
# These are ordinary words too: they are meant only where they are written as a name.
_WORDS = frozenset({"user", "stop", "store", "seed", "prediction"})
# Where a refusal goes on about what would have to be otherwise.
_CONDITION = re.compile(r"\b(?:when|unless|if|instead|because)\b|\. (?=[A-Z])", re.IGNORECASE)
# Refusals, and deployments that want to be asked in another way: few are ever met, and each costs one request to learn
# again.
_REMEMBERED = 256


def named(text: str, passed: Collection[str], param: str = "") -> tuple[str, ...]:
    """Those of the passed parameters that a refusal is about. `param` is what a provider itself says that it is
    about, before its words are looked at."""
    for about in (param, _CONDITION.split(text, maxsplit=1)[0], text):
        if found := tuple(name for name in passed if _is_named(name, about)):
            return found
    return ()


def _is_named(name: str, text: str) -> bool:
    names = "|".join(filter(None, (re.escape(name).replace("_", "_?"), _OTHER_NAMES.get(name))))  # or topP
    if name in _WORDS:
        written = rf"['\"`](?:{names})['\"`]|^(?:{names})$|(?<![\w.])(?:{names})[:=]"
    else:
        written = rf"(?<![\w.])(?:{names})(?!\w)"
    return re.search(written, text, re.IGNORECASE) is not None


class Refusals:
    """What deployments have refused to take, so that it is not sent to them again.

    Whether something is refused may depend on its value and on what else is asked, so that it is remembered with both;
    and on what the conversation holds, so that it is remembered for the tenant alone who was refused.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, frozenset[str]], tuple[str, ...]] = OrderedDict()
        self._ways: OrderedDict[tuple[str, str], tuple[Way, ...]] = OrderedDict()  # to be asked in
        self._tenant = ""

    def to(self, tenant: str) -> Refusals:
        """The same, for what a tenant is refused."""
        made = copy.copy(self)
        made._tenant = tenant
        return made

    def of_these(self, ids: Collection[str]) -> Refusals:
        """What these deployments have refused, for the next config."""
        made = Refusals()
        made._known.update((key, refused) for key, refused in list(self._known.items()) if key[0] in ids)
        made._ways.update((key, ways) for key, ways in list(self._ways.items()) if key[0] in ids)
        return made

    def of(self, deployment: Deployment, passed: Mapping[str, Any]) -> tuple[str, ...]:
        """Those that it has refused where it was asked in this way."""
        return _recalled(self._known, self._key(deployment, passed)) if self._known else ()

    def ways(self, deployment: Deployment) -> tuple[Way, ...]:
        """Those in which it has answered after a refusal."""
        return _recalled(self._ways, (deployment.id, self._tenant))

    def add(
        self, deployment: Deployment, passed: Mapping[str, Any], refused: Iterable[str], ways: Iterable[Way] = ()
    ) -> None:
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
    with contextlib.suppress(KeyError):  # by now, or by what another thread has added
        table.move_to_end(key)
    return table.get(key, ())


def _add(table: OrderedDict[_K, tuple[_V, ...]], key: _K, more: Iterable[_V]) -> None:
    if all_ := tuple(dict.fromkeys((*table.get(key, ()), *more))):
        table[key] = all_
    while len(table) > _REMEMBERED:
        table.popitem(last=False)


class Passed:
    """The parameters of one try: what the request asks and what the config adds, less what has to be left out.

    Attributes:
        options: LiteLLM's arguments, as they are passed now; what stands in `extra_body` goes into the body.
        body: what is laid over the provider's body, or the whole of it, as it is now.
        messages: in OpenAI's format, as they are passed now.
        notes: what was left out, one line each.
    """

    def __init__(
        self,
        deployment: Deployment,
        options: Mapping[str, Any],
        body: Mapping[str, Any],
        refusals: Refusals,
        places: Mapping[str, tuple[str, ...]],
        messages: Sequence[dict[str, Any]],
    ) -> None:
        self._deployment = deployment
        self._refusals = refusals
        self._places = places  # of parameters in the body; empty where LiteLLM puts them there
        self.options = dict(options)
        self.body: Mapping[str, Any] = body
        self.messages = list(messages)
        self.notes: list[str] = []
        own = deployment.params
        self._allowed = [*self.options.pop("allowed_openai_params", ()), *allowed_by(deployment)]
        self._all: dict[str, Any] = {name: _at(body, path) for name, path in places.items()}
        if not places:
            self._all |= {key: value for key, value in own.items() if key in TUNING and key not in SHAPED}
        self._all |= {key: value for key, value in self.options.items() if key != "extra_body"}
        for place in () if places else self._bodies():
            self._all |= {key: value for key, value in place.items() if key in _KNOWN and (key,) not in _THINKING}
            if how := [value for path in _THINKING if (value := _at(place, path)) is not None]:
                self._all["thinking" if "thinking" in own else "reasoning_effort"] = how
        self._may_drop = own.get("drop_params") is True
        self._left_to_litellm = False
        given = own.get("additional_drop_params")
        self._dropped = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
        self._left_out: set[str] = set()
        self._refused: list[str] = []
        self._ways: list[Way] = []
        if named_by_config := [name for name in self._all if name in self._dropped]:
            self._leave_out(named_by_config, f"additional_drop_params of {deployment.name} name it")
        if known := refusals.of(deployment, self._all):
            self._leave_out(known)
        for way in refusals.ways(deployment):
            self._go(way)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are passed now."""
        return tuple(name for name in self._all if name not in self._left_out)

    def litellm(self) -> dict[str, Any]:
        """How LiteLLM is told. It would drop what it thinks is not taken without a word, which is done here instead."""
        told: dict[str, Any] = {}
        if self._may_drop:
            told["drop_params"] = self._left_to_litellm
        if self._dropped:
            told["additional_drop_params"] = list(self._dropped)
        # LiteLLM adds a null for each name that is not in the call, and what is not OpenAI's goes through anyhow.
        own = self._deployment.params.keys() - set(SHAPED) - set(self._dropped)
        kept = (*self._allowed, *(_LIMITS if self._left_to_litellm else ()))  # a limit is not LiteLLM's to drop
        if allowed := [name for name in kept if name in _OPENAIS and (name in self.options or name in own)]:
            told["allowed_openai_params"] = allowed
        return told

    def without(self, refused: Collection[str], *, by_litellm: bool) -> bool:
        """Leave out what was refused. False where that is nothing, or would change what is asked: what LiteLLM refuses
        is dropped all the same where the config has `drop_params`, as LiteLLM does."""
        drops = by_litellm and self._may_drop
        if any(name not in TUNING and not (drops and name not in _LIMITS) for name in refused):
            return False
        if not refused:
            if not drops or self._left_to_litellm:
                return False
            self._left_to_litellm = True
            self.notes.append(f"drop_params: LiteLLM left out what {self._deployment.name} does not take")
            return True
        self._refused += refused
        self._leave_out(refused)
        return True

    def remember(self) -> None:
        """What was refused was the reason: without it, and in this way, there is an answer."""
        self._refusals.add(self._deployment, self._all, self._refused, self._ways)

    def follow(self, earlier: Passed) -> None:
        """Leave out what an earlier one has had to leave out in the same try, and ask in its way."""
        for way in earlier._ways:
            self.in_another_way(way)
        self._left_to_litellm = earlier._left_to_litellm
        self._refused = list(earlier._refused)
        self._leave_out(name for name in earlier._refused if name in self.names)

    def in_another_way(self, way: Way) -> bool:
        """Ask as the deployment says that it wants to be asked; False where it was asked so."""
        if not self._go(way):
            return False
        self._ways.append(way)
        return True

    def _go(self, way: Way) -> bool:
        if way == "max_completion_tokens":
            if "max_tokens" not in self.options:
                return False
            # Where LiteLLM does not make the old name of it again.
            self.options["extra_body"] = {**self.options.get("extra_body", {}), way: self.options.pop("max_tokens")}
            return True
        systems = [message for message in self.messages if message["role"] in _SYSTEMS]
        if self._places or not systems or self.messages[: len(systems)] == systems[:1]:
            return False
        said = {"role": "system", "content": "\n\n".join(_text(message["content"]) for message in systems)}
        self.messages = [said, *(message for message in self.messages if message["role"] not in _SYSTEMS)]
        if "messages" in self.options.get("extra_body", {}):
            self.options["extra_body"] = {**self.options["extra_body"], "messages": self.messages}
        self.notes.append(
            f"what the system says was put together at the beginning: {self._deployment.name} wants it so"
        )
        return True

    def _leave_out(self, names: Iterable[str], why: str = "") -> None:
        # A choice among tools, without them, is refused as well.
        names = [*names, *(["tool_choice"] if "tools" in names and "tool_choice" in self._all else [])]
        for name in dict.fromkeys(names):
            self._left_out.add(name)
            self.options.pop(name, None)
            paths = _THINKING if name in ("thinking", "reasoning_effort") else ((name,),)
            if name in self._places:
                paths = (self._places[name],)
            for path in paths:
                self.body = _less(self.body, path)
                if "extra_body" in self.options:
                    self.options["extra_body"] = _less(self.options["extra_body"], path)
            if name in self._deployment.params and name not in SHAPED and name not in self._dropped:
                self._dropped.append(name)
            self.notes.append(f"{name} was left out: {why}" if why else not_taken(name, self._deployment.name))

    def _bodies(self) -> Iterable[Mapping[str, Any]]:
        return (place for place in (self.body, self.options.get("extra_body")) if place and isinstance(place, Mapping))


_SYSTEMS = ("system", "developer")


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = body
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _less(body: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The body without what is at this place, nor what that leaves empty."""
    key, *further = path
    less = dict(body)
    if not further:
        less.pop(key, None)
    elif isinstance(inner := less.get(key), Mapping) and not (kept := _less(inner, tuple(further))):
        if inner:
            del less[key]
    elif isinstance(inner, Mapping):
        less[key] = kept
    return less

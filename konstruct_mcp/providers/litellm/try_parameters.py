"""The parameters of one try: what the request asks for and the config adds, without what has to be left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.notes import not_taken
from konstruct_mcp.providers.litellm.places import THINKING_PLACES, at, without
from konstruct_mcp.providers.litellm.profiles.profile import SHAPED, allowed_by
from konstruct_mcp.providers.refused_parameters import TUNING, Refusals, Way

# OpenAI's parameters: LiteLLM has an argument for each, and refuses it where it thinks that the model does.
_OPENAI_PARAMETERS = (TUNING - {"top_k", "min_p", "typical_p", "repetition_penalty", "reasoning", "effort"}) | {
    *("tools", "tool_choice", "response_format", "max_tokens", "max_completion_tokens", "modalities", "audio"),
    *("web_search_options", "prompt_cache_retention", "context_management"),
}
_KNOWN = TUNING | _OPENAI_PARAMETERS
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})  # never dropped: a budget may rest on them
_SYSTEM_ROLES = ("system", "developer")


class TryParameters:
    """The parameters of one try, which become fewer with each refusal.

    Attributes:
        options: LiteLLM's arguments; what stands in `extra_body` goes into the body.
        body: what is laid over the provider's body, or the whole of it.
        messages: in OpenAI's format.
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
        *,
        names_effort: bool = False,
    ) -> None:
        """Leaves out at once what the config's `additional_drop_params` name and what is known to be refused.

        Args:
            refusals: what the deployment has refused before, and where it is remembered.
            places: where in `body` each parameter stands; empty where LiteLLM puts them there.
            names_effort: whether the request says how hard to think, which notes then call as it does.
        """
        self._deployment = deployment
        self._refusals = refusals
        self._places = places
        self._shown = dict.fromkeys(("reasoning_effort", "thinking"), "effort") if names_effort else {}
        self.options = dict(options)
        self.body: Mapping[str, Any] = body
        self.messages = list(messages)
        self.notes: list[str] = []
        own = deployment.params
        self._allowed = [*self.options.pop("allowed_openai_params", ()), *allowed_by(deployment)]
        self._all: dict[str, Any] = {name: at(body, path) for name, path in places.items()}
        if not places:
            self._all |= {key: value for key, value in own.items() if key in TUNING and key not in SHAPED}
        self._all |= {key: value for key, value in self.options.items() if key != "extra_body"}
        for place in () if places else self._bodies():
            self._all |= {key: value for key, value in place.items() if key in _KNOWN and (key,) not in THINKING_PLACES}
            if how := [value for path in THINKING_PLACES if (value := at(place, path)) is not None]:
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
        """The names of the parameters that are sent now."""
        return tuple(name for name in self._all if name not in self._left_out)

    def litellm(self) -> dict[str, Any]:
        """LiteLLM's own arguments about parameters. LiteLLM would drop without a word what it thinks is not taken; that
        is done here, with a note."""
        told: dict[str, Any] = {}
        if self._may_drop:
            told["drop_params"] = self._left_to_litellm
        if self._dropped:
            told["additional_drop_params"] = list(self._dropped)
        # Only parameters that are sent: LiteLLM would add a null for any other. What is not OpenAI's passes anyhow.
        own = self._deployment.params.keys() - set(SHAPED) - set(self._dropped)
        kept = (*self._allowed, *(_LIMITS if self._left_to_litellm else ()))  # LiteLLM must not drop a limit
        if allowed := [name for name in kept if name in _OPENAI_PARAMETERS and (name in self.options or name in own)]:
            told["allowed_openai_params"] = allowed
        return told

    def without(self, refused: Collection[str], *, by_litellm: bool) -> bool:
        """Leave out what was refused.

        False where that is nothing, or would change what is asked for. What LiteLLM itself refuses is dropped all the
        same where the config sets `drop_params`, since LiteLLM would drop it too.

        Args:
            by_litellm: whether LiteLLM has refused it, and not the provider.
        """
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
        """Remember the refusals of this try: without what was refused there was an answer."""
        self._refusals.add(self._deployment, self._all, self._refused, self._ways)

    def follow(self, earlier: TryParameters) -> None:
        """Leave out what an earlier attempt of the same try had to leave out, and ask in its way."""
        for way in earlier._ways:
            self.in_another_way(way)
        self._left_to_litellm = earlier._left_to_litellm
        self._refused = list(earlier._refused)
        self._leave_out([name for name in earlier._refused if name in self.names])

    def in_another_way(self, way: Way) -> bool:
        """Ask in the way that the deployment says it wants; False where it was asked so already."""
        if not self._go(way):
            return False
        self._ways.append(way)
        return True

    def _go(self, way: Way) -> bool:
        if way == "max_completion_tokens":
            if "max_tokens" not in self.options:
                return False
            # In `extra_body`, where LiteLLM does not turn it back into the old name.
            self.options["extra_body"] = {**self.options.get("extra_body", {}), way: self.options.pop("max_tokens")}
            return True
        systems = [message for message in self.messages if message["role"] in _SYSTEM_ROLES]
        if self._places or not systems or self.messages[: len(systems)] == systems[:1]:
            return False
        said = {"role": "system", "content": "\n\n".join(_text_of(message["content"]) for message in systems)}
        self.messages = [said, *(message for message in self.messages if message["role"] not in _SYSTEM_ROLES)]
        if "messages" in self.options.get("extra_body", {}):
            self.options["extra_body"] = {**self.options["extra_body"], "messages": self.messages}
        self.notes.append(
            f"what the system says was put together at the beginning: {self._deployment.name} wants it so"
        )
        return True

    def _leave_out(self, names: Collection[str], why: str = "") -> None:
        # Without tools, a choice among them is refused too.
        names = [*names, *(["tool_choice"] if "tools" in names and "tool_choice" in self._all else [])]
        for name in dict.fromkeys(names):
            self._left_out.add(name)
            self.options.pop(name, None)
            paths = THINKING_PLACES if name in ("thinking", "reasoning_effort") else ((name,),)
            if name in self._places:
                paths = (self._places[name],)
            for path in paths:
                self.body = without(self.body, path)
                if "extra_body" in self.options:
                    self.options["extra_body"] = without(self.options["extra_body"], path)
            if name in self._deployment.params and name not in SHAPED and name not in self._dropped:
                self._dropped.append(name)
            shown = self._shown.get(name, name)
            self.notes.append(f"{shown} was left out: {why}" if why else not_taken(shown, self._deployment.name))

    def _bodies(self) -> Iterable[Mapping[str, Any]]:
        return (place for place in (self.body, self.options.get("extra_body")) if place and isinstance(place, Mapping))


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)

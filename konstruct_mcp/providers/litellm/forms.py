"""In which form a model takes what is asked: decided from its data, so that a new one is right once its data is there.

Plain code over data, which knows no LiteLLM. LiteLLM goes by the names that it knew when it was published: a model that
came later gets another parameter for its limit, a budget of thinking where it takes a level, a forced tool where it has
a format for schemas. `Form.of` settles once what the config and the model's entry say of a deployment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from konstruct_mcp.config.model import Deployment

Wire = Literal["openai", "responses", "anthropic", "converse", "gemini", "cohere"]

# Keys of litellm_params whose form is decided here; LiteLLM is not told them as they are.
LIMITS = ("max_completion_tokens", "max_tokens")
SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "logit_bias")
SHAPED = (*LIMITS, *SAMPLING, "reasoning_effort", "thinking", "output_config", "parallel_tool_calls", "extra_body")

_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Tokens of thinking for a level, where a model takes no levels: as LiteLLM has it for Claude, and Google for Gemini.
_CLAUDE_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096}
_GEMINI_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
LEAST_BUDGET = 1024  # tokens; Anthropic takes no less
_LEAST_ANSWER = 16  # tokens; the Responses API takes no less
# Of a Claude that nobody knows: each since version 4 answers as long.
_NEW_CLAUDES_LONGEST = 32_000
# The Geminis that take a budget. Those that come take levels, so that this list does not grow.
_BUDGETED_GEMINI = re.compile(r"gemini-([12]([.-]|$)|(pro|flash)(-vision|-00\d)?$)|gemma|learnlm")

_MISTRAL = re.compile(r"(mistral|ministral|magistral|codestral|devstral|pixtral)", re.IGNORECASE)


def not_taken(what: str, name: str) -> str:
    """The note on a parameter that is left out because the deployment of this name has nothing for it."""
    return f"{what} was left out: {name} does not take it"


def became(asked: str, level: str, name: str) -> str:
    """The note on a level of effort in whose place another goes out."""
    return f"reasoning_effort {asked} became {level}, the nearest that {name} has"


def budget_of(thinking: Any) -> Any:
    """The tokens that the config's `thinking` gives for it; None where it gives none."""
    return thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model is to think, as the config asks for it and the model takes it.

    Attributes:
        claude: Anthropic's `thinking`, None for what the model does by itself.
        effort: the level; None where none is asked for.
        will: whether a Claude thinks: then it takes no temperature, and no tool can be forced on it.
        notes: what of the config the model does not take, one line each.
    """

    claude: Mapping[str, Any] | None = None
    effort: str | None = None
    will: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """What holds for every request to a deployment.

    Attributes:
        name: the deployment's, for notes.
        provider, model: of `provider/model`, or the model that the config says is behind that name.
        wire: the format that its provider is asked in.
        entry: what is known of the model, in the words of LiteLLM's table; empty for nothing.
        params: what of its litellm_params is shaped here.
        allowed: what the config says is taken, whatever the table says.
        is_known: whether the table has the model.
        is_claude: whether it takes what Claude takes.
        thinks_as_claude: whether it is told to think as Claude is.
        limit_key: the name of the limit on that wire, as LiteLLM is told it.
        thinking: how it is to think.
    """

    name: str
    provider: str
    model: str
    wire: Wire
    entry: Mapping[str, Any]
    params: Mapping[str, Any]
    allowed: frozenset[str]
    is_known: bool
    is_claude: bool
    thinks_as_claude: bool
    limit_key: str
    thinking: Thinking

    @classmethod
    def of(cls, deployment: Deployment, entry: Mapping[str, Any]) -> Form:
        provider, model = _parts(deployment)
        is_known = "litellm_provider" in entry or "mode" in entry
        behind = _behind(deployment)
        wire = _wire(provider, model, behind, entry)
        takes_its_thinking = bool(entry.get("supports_anthropic_thinking_payload"))
        is_claude = wire == "anthropic" or ("claude" in behind and (wire == "converse" or takes_its_thinking))
        thinks_as_claude = is_claude or takes_its_thinking
        params = {key: deployment.params[key] for key in SHAPED if key in deployment.params}
        allowed = frozenset(allowed_by(deployment))
        if "reasoning_effort" in allowed or "thinking" in allowed:
            entry = {**entry, "supports_reasoning": True}
        return cls(
            name=deployment.name,
            provider=provider,
            model=behind,
            wire=wire,
            entry=entry,
            params=params,
            allowed=allowed,
            is_known=is_known,
            is_claude=is_claude,
            thinks_as_claude=thinks_as_claude,
            limit_key=_limit_key(provider, wire, entry, is_known, deployment),
            thinking=_claude_thinking(deployment.name, params, entry, is_known)
            if thinks_as_claude
            else _effort(deployment.name, params, entry, is_known, provider, behind, allowed),
        )

    @property
    def reasons_in_openais_way(self) -> bool:
        """Whether it is one of OpenAI's models that reason, which choose words in their own way."""
        return self.provider in ("openai", "azure") and bool(self.entry.get("supports_reasoning"))

    @property
    def is_openais_own(self) -> bool:
        """Whether it is one of OpenAI's models at OpenAI or Azure."""
        return self.provider in ("openai", "azure") and self.is_known

    @property
    def is_mistral_s(self) -> bool:
        """Whether it takes what Mistral takes, which the clouds pass on."""
        name = self.model.rpartition("/")[2]
        return self.provider == "mistral" or (self.provider in ("vertex_ai", "azure_ai") and bool(_MISTRAL.match(name)))

    @property
    def takes_choice(self) -> bool:
        """Whether it can be told whether to call a tool, as far as anybody knows."""
        return self.entry.get("supports_tool_choice") is not False or "tool_choice" in self.allowed

    @property
    def thinks_always(self) -> bool:
        """Whether it cannot be told not to think."""
        return bool(self.entry.get("thinking_always_on"))

    @property
    def levels_of_gemini(self) -> bool:
        """Whether it takes a level of thinking and not a budget."""
        return _BUDGETED_GEMINI.search(self.model.rpartition("/")[2]) is None


def allowed_by(deployment: Deployment) -> tuple[str, ...]:
    """What its `allowed_openai_params` name."""
    given = deployment.params.get("allowed_openai_params")
    return tuple(name for name in given if isinstance(name, str)) if isinstance(given, list | tuple) else ()


def _behind(deployment: Deployment) -> str:
    """The model, without its provider: where the config says what is behind a name of one's own, that."""
    provider, model = _parts(deployment)
    base = deployment.params.get("base_model")
    return base.removeprefix(f"{provider}/") if isinstance(base, str) and base else model


def _wire(provider: str, model: str, behind: str, entry: Mapping[str, Any]) -> Wire:
    """By the model's route, and by what is behind its name."""
    if provider == "anthropic":
        return "anthropic"
    if provider == "bedrock" and is_converse(model, entry):
        return "converse"
    if provider in ("bedrock", "vertex_ai", "azure_ai") and "claude" in behind:
        return "anthropic"
    if provider == "gemini" or (provider.startswith("vertex_ai") and "gemini" in behind):
        return "gemini"
    if provider in ("cohere", "cohere_chat"):
        return "cohere"
    if provider in ("openai", "azure") and (entry.get("mode") == "responses" or model.startswith("responses/")):
        return "responses"
    return "openai"


def is_converse(model: str, entry: Mapping[str, Any]) -> bool:
    """Whether a model of Bedrock is asked through Converse."""
    route = model.partition("/")[0]
    if route in ("converse", "converse_like"):
        return True
    return route != "invoke" and entry.get("litellm_provider") == "bedrock_converse"


# -- how long the answer may be ----------------------------------------------------------------------------------------


def _limit_key(
    provider: str, wire: Wire, entry: Mapping[str, Any], is_known: bool, deployment: Deployment
) -> Literal["max_tokens", "max_completion_tokens"]:
    """OpenAI's models that reason, and those that come, take only `max_completion_tokens`; what else speaks its format
    knows `max_tokens`, and often only that."""
    if wire == "responses":
        return "max_completion_tokens"  # LiteLLM makes `max_output_tokens` of it
    if provider not in ("openai", "azure") or wire != "openai":
        return "max_tokens"
    if is_known:
        newer = bool(entry.get("supports_reasoning"))
    else:  # a server of one's own, as long as it is no cloud's
        newer = provider == "azure" or "api_base" not in deployment.params
    is_named = any(name == "max_completion_tokens" for name, _ in _limits_in(deployment.params))
    return "max_completion_tokens" if newer or is_named else "max_tokens"


# What it is called in one format or another, in lower case and without underscores; and the objects in which it stands.
_LIMIT_NAMES = frozenset(
    {"maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxnewtokens", "maxtokenstosample", "maxtokencount"}
    | {"maxgenlen", "numpredict", "npredict"}
)
_AROUND_LIMITS = frozenset(
    {"extrabody", "options", "parameters", "inferenceconfig", "generationconfig", "textgenerationconfig"}
    | {"additionalmodelrequestfields"}
)


def is_limit(key: str) -> bool:
    """Whether a setting of this name says how long an answer may be, in whichever provider's format."""
    return _plain(key) in _LIMIT_NAMES


def without_limits(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a deployment, or what they add to a body, without how long an answer may be: that goes out once, and
    under the name that the deployment takes."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if not is_limit(key):
            goes_into = _plain(key) in _AROUND_LIMITS and isinstance(value, Mapping)
            kept[key] = without_limits(value) if goes_into else value
            if goes_into and value and not kept[key]:
                del kept[key]
    return kept


def _limits_in(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if is_limit(key):
            yield key, value
        elif _plain(key) in _AROUND_LIMITS and isinstance(value, Mapping):
            yield from _limits_in(value)


def _plain(key: Any) -> str:
    return str(key).lower().replace("_", "")


def cap(deployment: Deployment) -> int | None:
    """The limit that the config sets, wherever it does: a default, and the most that a call may ask for."""
    given = (_count(value) for _, value in _limits_in(deployment.params))  # Ollama's -1 and -2 are no limit
    return min((number for number in given if number is not None), default=None)


def _count(value: Any) -> int | None:
    """A positive integer, which YAML and the environment may give as text."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def limit(deployment: Deployment, entry: Mapping[str, Any], asked: int | None) -> int | None:
    """The limit that goes out; None where none does, and the model's own holds."""
    capped, wire = cap(deployment), _wire(*_parts(deployment), _behind(deployment), entry)
    if asked is not None or capped is not None:
        least = _LEAST_ANSWER if wire == "responses" else 1
        return max(least, min(number for number in (asked, capped) if number is not None))
    if wire == "anthropic":  # which takes no request without one
        longest = deployment.max_output_tokens or _count(entry.get("max_output_tokens"))
        return longest or _NEW_CLAUDES_LONGEST
    return None


def _parts(deployment: Deployment) -> tuple[str, str]:
    provider, _, model = deployment.model.partition("/")
    return provider, model


# -- thinking, and how hard --------------------------------------------------------------------------------------------


def levels(entry: Mapping[str, Any], is_known: bool) -> tuple[str, ...] | None:
    """The levels of effort that a model takes; None where nobody knows."""
    given = entry.get("reasoning_effort_levels")
    if isinstance(given, list | tuple):
        return tuple(level for level in _LEVELS if level in given)
    said = {level: entry.get(f"supports_{level}_reasoning_effort") for level in _LEVELS}
    if not (entry.get("supports_reasoning") or any(said.values())):
        return () if is_known or entry.get("supports_reasoning") is False else None
    usual = ("low", "medium", "high")
    return tuple(level for level in _LEVELS if said[level] or (level in usual and said[level] is None))


def nearest(level: str, among: tuple[str, ...]) -> str:
    """Of these, which are not empty, the level nearest to another; the lower of two, and none at all for none only."""
    rank = _LEVELS.index
    if level in among or level not in _LEVELS:
        return level
    others = [one for one in among if one != "none"] or list(among)
    return min(others, key=lambda one: (abs(rank(one) - rank(level)), rank(one)))


def _asked_effort(params: Mapping[str, Any]) -> str | None:
    """The level that the config asks for, by itself or in OpenAI's object."""
    effort = params.get("reasoning_effort")
    if isinstance(effort, Mapping):
        effort = effort.get("effort")
    if isinstance(effort, str) and effort.strip():
        word = effort.strip().lower()
        return "none" if word in ("disable", "disabled", "off") else word
    return None


def _settled(name: str, asked: str, entry: Mapping[str, Any], is_known: bool) -> tuple[str | None, tuple[str, ...]]:
    """The level that goes out for the one asked for, and what is to be said of it."""
    among = levels(entry, is_known)
    if among is None:
        return asked, ()
    if not among:
        return None, () if asked == "none" else (not_taken("reasoning_effort", name),)
    level = nearest(asked, among)
    if level == asked:
        return level, ()
    return level, (became(asked, level, name),)


def _effort(
    name: str,
    params: Mapping[str, Any],
    entry: Mapping[str, Any],
    is_known: bool,
    provider: str,
    model: str,
    allowed: Collection[str],
) -> Thinking:
    """Of a model that takes levels of effort."""
    asked = _asked_effort(params)
    thinking = params.get("thinking")
    levelled = ("gemini", "vertex_ai", "bedrock") + (() if "thinking" in allowed else ("openai", "azure"))
    if asked is None and isinstance(thinking, Mapping) and provider in levelled:
        asked = "none" if thinking.get("type") == "disabled" else _level_of(thinking.get("budget_tokens"))
    if asked is None:
        return Thinking()
    if "reasoning_effort" in allowed:
        return Thinking(effort=asked)
    if provider in ("gemini", "vertex_ai") and _BUDGETED_GEMINI.search(model):
        if levels(entry, is_known) == ():  # it thinks neither so nor so
            return Thinking(notes=() if asked == "none" else (not_taken("reasoning_effort", name),))
        return Thinking(effort=asked)
    effort, notes = _settled(name, asked, entry, is_known)
    return Thinking(effort=effort, notes=notes)


def _level_of(budget: Any) -> str:
    """The level that stands for so many tokens of thinking."""
    tokens = _count(budget)
    if tokens is None:
        return "medium"
    return "low" if tokens <= 2048 else "medium" if tokens <= 8192 else "high"


def _claude_thinking(name: str, params: Mapping[str, Any], entry: Mapping[str, Any], is_known: bool) -> Thinking:
    """Anthropic's three ages: a budget of tokens, a level beside it, a level alone."""
    adapts = bool(entry.get("supports_adaptive_thinking")) or not is_known
    thinks = adapts or bool(entry.get("supports_reasoning"))
    always = bool(entry.get("thinking_always_on"))
    by_itself = always or bool(entry.get("thinking_on_by_default"))
    asked = _asked_effort(params)
    notes: tuple[str, ...] = ()
    given = params.get("thinking")
    kind = given.get("type") if isinstance(given, Mapping) else None
    if asked == "none" and kind is None:
        kind = "disabled"
    if asked is None and kind is None:
        return Thinking(will=by_itself)
    if not thinks:
        what = "reasoning_effort" if kind is None else "thinking"
        return Thinking(notes=() if kind == "disabled" else (not_taken(what, name),))
    if kind == "disabled":
        if always:
            notes = (f"{name} thinks, and cannot be told not to",)
            return Thinking(effort=nearest("none", _claude_levels(entry)) if adapts else None, will=True, notes=notes)
        return Thinking(claude={"type": "disabled"} if by_itself or given else None)
    budget = budget_of(given)
    if not adapts or (kind == "enabled" and entry.get("supports_legacy_thinking")):
        if kind == "adaptive":
            notes = (f"thinking became a budget of tokens, the form that {name} takes",)
        tokens = _count(budget) or _CLAUDE_BUDGETS.get(nearest(asked or "high", tuple(_CLAUDE_BUDGETS)), 4096)
        level = nearest(asked, _claude_levels(entry)) if adapts and asked else None
        return Thinking({"type": "enabled", "budget_tokens": max(tokens, LEAST_BUDGET)}, level, True, notes)
    if kind == "enabled":
        notes = (f"thinking became adaptive, the form that {name} takes",)
        asked = asked or _level_of(budget)
    if asked is None:  # adaptive, and no more was said
        return Thinking({"type": "adaptive"}, will=True)
    level = (
        nearest(asked, _claude_levels(entry)) if is_known else nearest(asked, ("low", "medium", "high", "xhigh", "max"))
    )
    if level != asked:
        notes = (*notes, became(asked, level, name))
    return Thinking({"type": "adaptive"}, level, True, notes)


def _claude_levels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    found = levels({"supports_reasoning": True, **entry}, is_known=True) or ("low", "medium", "high")
    ceiling = entry.get("bedrock_output_config_effort_ceiling")
    if ceiling in _LEVELS:
        found = tuple(level for level in found if _LEVELS.index(level) <= _LEVELS.index(ceiling))
    return found


def gemini_thinking(form: Form) -> dict[str, Any] | None:
    """Gemini's `thinkingConfig`; None where nothing is asked for."""
    effort, given = form.thinking.effort, form.params.get("thinking")
    if effort is None:
        return None
    if form.levels_of_gemini:
        return {"thinkingLevel": effort}
    budget = budget_of(given)
    among = tuple(_GEMINI_BUDGETS)
    return {"thinkingBudget": _count(budget) or _GEMINI_BUDGETS.get(nearest(effort, among), -1)}


# -- schemas -----------------------------------------------------------------------------------------------------------

# What Anthropic's structured outputs take as they are; what else says how a value is to be goes into its description.
_TAKEN = frozenset(
    {"type", "enum", "const", "title", "description", "default", "format", "pattern", "required", "minItems"}
)
_IDLE = frozenset({"$schema", "$id", "$comment", "$anchor", "examples", "deprecated", "readOnly", "writeOnly"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_TOO_MUCH = frozenset(
    {"not", "if", "then", "else", "patternProperties", "prefixItems", "dependentSchemas", "unevaluatedProperties"}
    | {"$dynamicRef", "$recursiveRef", "contains"}
)
_HARD_PATTERN = re.compile(r"\(\?|\\[1-9bB]")  # looks around, refers back


class _Beyond(Exception):  # noqa: N818  says that a schema is beyond a format, which is no error
    pass


def has_refs(schema: Any) -> bool:
    """Whether a schema refers to a part of itself."""
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(map(has_refs, schema.values()))
    return isinstance(schema, list) and any(map(has_refs, schema))


def of_an_object(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """A tool's parameters, with what they mean anyhow: Bedrock wants to be told that they are an object, and OpenAI
    which properties it has, if only none."""
    made = {"type": "object", **(schema or {})}
    if made["type"] != "object" or not _COMBINED.isdisjoint(made) or isinstance(made.get("properties"), Mapping):
        return made
    return {**made, "properties": {}}


_COMBINED = frozenset({"$ref", "anyOf", "oneOf", "allOf"})


def property_names(schema: Any) -> Iterator[str]:
    """What the objects of a schema have, at any depth."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "properties" and isinstance(value, Mapping):
                yield from value
            yield from property_names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from property_names(value)


def untitled(schema: Any) -> Any:
    """A schema without titles, which some Geminis take for something to call."""
    if isinstance(schema, list):
        return [untitled(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: untitled(part) for name, part in value.items()}
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping)
        else value
        if key in ("enum", "const", "default", "examples")
        else untitled(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def closed_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    """A schema as Anthropic's structured outputs take it: objects closed, references kept, bounds in words; and the
    keys of these. None for one that is beyond them: recursive, or with objects whose keys are open."""
    in_words: set[str] = set()
    try:
        if _is_recursive(schema):
            return None
        return _closed(schema, in_words), frozenset(in_words)
    except (_Beyond, AttributeError, TypeError, RecursionError):  # the last three: it is none
        return None


def _closed(schema: Any, in_words: set[str]) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or not _TOO_MUCH.isdisjoint(schema):
        raise _Beyond
    made: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for key, value in schema.items():
        match key:
            case "$ref":
                if not isinstance(value, str) or not value.startswith(("#/$defs/", "#/definitions/")):
                    raise _Beyond
                made[key] = value
            case "$defs" | "definitions" | "properties":
                made[key] = {name: _closed(part, in_words) for name, part in value.items()}
            case "items":
                made[key] = _closed(value, in_words)
            case "anyOf" | "oneOf" | "allOf":
                made["allOf" if key == "allOf" else "anyOf"] = [_closed(part, in_words) for part in value]
            case "additionalProperties":
                if value is not False:
                    raise _Beyond
            case "enum" if any(isinstance(one, dict | list) for one in value):
                raise _Beyond
            case "format" if value not in _FORMATS:
                words[key] = value
            case "pattern" if _HARD_PATTERN.search(value):
                words[key] = value
            case "minItems" if value not in (0, 1):
                words[key] = value
            case _ if key in _TAKEN:
                made[key] = value
            case _ if key not in _IDLE:
                words[key] = value
    if schema.get("type") == "object" or "properties" in schema:
        if "properties" not in schema:  # any object at all
            raise _Beyond
        made["additionalProperties"] = False
    if words:
        in_words.update(words)
        said, told = made.get("description"), ", ".join(f"{key}: {value}" for key, value in words.items())
        made["description"] = f"{said} ({told})" if said else told
    return made


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether one of its definitions refers to itself, directly or through others."""
    definitions = {
        f"#/{home}/{name}": part for home in ("$defs", "definitions") for name, part in (schema.get(home) or {}).items()
    }
    behind = {ref: set(_refs(part)) for ref, part in definitions.items()}
    done: set[str] = set()
    under_way: set[str] = set()
    for start in behind:
        ahead = [(start, iter(behind[start]))]
        if start in done:
            continue
        under_way.add(start)
        while ahead:
            ref, further = ahead[-1]
            step = next(further, None)
            if step is None:
                ahead.pop()
                under_way.discard(ref)
                done.add(ref)
            elif step in under_way:
                return True
            elif step in behind and step not in done:
                under_way.add(step)
                ahead.append((step, iter(behind[step])))
    return False


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(ref := part.get("$ref"), str):
            yield ref
        for value in part.values():
            yield from _refs(value)
    elif isinstance(part, list):
        for value in part:
            yield from _refs(value)

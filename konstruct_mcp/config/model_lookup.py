"""Finding a deployment's model in the tables of model data, under the other names that tables have for it.

The user's own table comes first, then the one that ships with konstruct-mcp, then that of the installed LiteLLM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.config.model_fields import COUNTS, FLAGS, Entry, merged, sound
from konstruct_mcp.config.model_tables import Table, litellms_own, shipped

# What tables call a provider where LiteLLM's models have another prefix.
_TABLE_NAMES = {
    "cohere_chat": "cohere",
    "vertex_ai_beta": "vertex_ai",
    "bedrock_converse": "bedrock",
    "azure_text": "azure",
}
_ROUTES = re.compile(r"(responses|converse|converse_like|invoke|chat_completions|mantle|openai|nova|nova-2)/")
_REGION = re.compile(r"(?<![a-z-])([a-z]{2}(?:-[a-z]+)++-\d)/")
_GEOGRAPHY = re.compile(r"([a-z]{2}(?:-gov)?|apac|emea|global)\.(?=[a-z0-9]+\.)")
_GEOGRAPHIES = ("us", "us-gov", "eu", "apac", "jp", "au", "in", "ca", "global")  # that tables have
_GOV_REGIONS = "us-gov-"  # whose models are dearer than those of the same name elsewhere
_IN_ARN = re.compile(r"arn:[^:/]*:bedrock:([a-z0-9-]+):")
_PROFILE = re.compile(r"arn:[^/]*:(?:inference-profile|foundation-model)/(.+)")
_SNAPSHOT = re.compile(r"@[^/]*\Z|:\d+k\Z")  # Vertex's versions; Bedrock's of a certain context length
_TUNED = re.compile(r"(ft:[^:]+):.*")
_MOST_ALIASES = 4


def _family(provider: str) -> str:
    """The one name of a provider that tables split into several, by the maker or the use of its models:
    `vertex_ai-language-models`, `cohere_chat`."""
    provider = provider.removeprefix("text-completion-")
    return "vertex_ai" if provider.startswith("vertex_ai") else _TABLE_NAMES.get(provider, provider)


def _bare_names(provider: str, name: str) -> Iterator[str]:
    """The names, without the provider, that a table may have for a provider's model; the closest first."""
    yield name
    while match := _ROUTES.match(name):
        name = name[match.end() :]
        yield name
    if _family(provider) == "bedrock":
        if profile := _PROFILE.match(name):
            name = profile[1]
            yield name
        if match := _REGION.match(name):
            name = name[match.end() :]
            yield name
    if provider == "fireworks_ai" and "/" not in name:
        yield f"accounts/fireworks/models/{name}"
    if tuned := _TUNED.match(name):
        yield tuned[1]
    if (unversioned := _SNAPSHOT.sub("", name)) != name:
        name = unversioned
        yield name


def _siblings(name: str) -> tuple[str, ...]:
    """The names that tables have for a Bedrock model without a geography, and in each geography."""
    match = _GEOGRAPHY.match(name)
    if match is None:
        return ()
    bare = name[match.end() :]
    return (bare, *(f"{geography}.{bare}" for geography in _GEOGRAPHIES))


def _region(name: str, params: Mapping[str, Any]) -> str:
    """The AWS region in which a model of Bedrock runs; "" where neither its name nor its params give one."""
    told, named = params.get("aws_region_name"), _IN_ARN.search(name) or _REGION.search(name)
    return told if isinstance(told, str) else named[1] if named else ""


def _names(model: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The names to look for, the best first, each with the provider that its entry has to be of (None: of any)."""
    provider, slash, name = model.partition("/")
    if not slash:
        yield model, None
        return
    provider = _TABLE_NAMES.get(provider, provider)
    family = _family(provider)
    region = _region(name, params) if family == "bedrock" else ""
    base = params.get("base_model")
    if isinstance(base, str) and base:  # by which a deployment with a name of its own is priced
        name = base.removeprefix(f"{provider}/")
        if region:
            yield f"{provider}/{region}/{name}", None
        yield f"{provider}/{base}", None
        yield base, None
    for bare in _bare_names(provider, name):
        if region:
            yield f"{provider}/{region}/{bare}", None
        if region.startswith(_GOV_REGIONS):
            yield f"us-gov.{bare}", family
        yield f"{provider}/{bare}", None
        yield bare, family


# OpenRouter passes requests on to the makers of models: its word for a maker → what tables have before the name.
_MAKERS = {
    **{"anthropic": "", "openai": "", "google": "gemini/", "x-ai": "xai/", "z-ai": "zai/", "qwen": "dashscope/"},
    **{"moonshotai": "moonshot/", "mistralai": "mistral/", "deepseek": "deepseek/", "minimax": "minimax/"},
    **{"cohere": "", "perplexity": "perplexity/"},
}
_ABILITIES = (FLAGS, COUNTS, re.compile(r"reasoning_effort_levels|supported_(output_)?modalities"))


def _behind(model: str) -> Iterator[tuple[str, str | None]]:
    """The names to look for of the model behind `openrouter/maker/name`, which may have a variant such as `:free`."""
    provider, _, name = model.partition("/")
    if provider != "openrouter":
        return
    plain = name.partition(":")[0]  # `:free`, `:thinking`, `:nitro` … are ways to the same model
    if plain != name:
        yield f"{provider}/{plain}", None
    maker, slash, own = plain.lstrip("~").partition("/")
    if slash and (before := _MAKERS.get(maker)) is not None:
        for spelled in dict.fromkeys((own, own.replace(".", "-"))):
            yield f"{before}{spelled}", None if before else _family(maker)


def _abilities(found: Entry) -> dict[str, Any]:
    """What an entry says of the model itself, which holds at every provider; prices and retirement dates do not."""
    kept = {key: value for key, value in found.items() if any(kind.fullmatch(key) for kind in _ABILITIES)}
    return {**kept, "mode": "chat"} if kept else {}


@dataclass(frozen=True, slots=True)
class Models:
    """The tables that a config uses."""

    own: Table | None = None  # the user's; None without one

    def find(self, model: str, params: Mapping[str, Any]) -> Entry:
        """What the tables say of a deployment's model; empty where they say nothing.

        Args:
            model: `provider/model` as users read it.
            params: its litellm_params with environment references resolved, perhaps with a `base_model`.
        """
        names = list(_names(model, params))
        tables = [shipped()] if self.own is None else [shipped(), self.own]
        found = [_look_up(table, names) for table in tables]
        if not any(found):
            found = [_dearest(table, names) for table in tables]
        lower, upper = found[0], found[1] if len(found) > 1 else None
        if lower is None and model.partition("/")[0] not in ("ollama", "embedded"):  # which run what a user has made
            lower = sound(_look_up(litellms_own(), names) or {})
        if behind := list(_behind(model)):
            own = None if self.own is None else _look_up(self.own, behind)
            there = _look_up(shipped(), behind) or sound(_look_up(litellms_own(), behind) or {})
            lower = merged(lower or {}, _abilities(merged(own or {}, there)))
        return merged(upper or {}, lower or {})

    def named(self, name: str) -> Entry:
        """What the user's table and the one that ships have under exactly this name."""
        return merged((self.own and self.own.entries.get(name)) or {}, shipped().entries.get(name) or {})

    def known(self) -> Iterator[str]:
        """The names in the user's table and in the one that ships."""
        yield from dict.fromkeys((*(() if self.own is None else self.own.entries), *shipped().entries))


def _look_up(table: Table, names: Iterable[tuple[str, str | None]]) -> Entry | None:
    for name, family in names:
        found = table.entries.get(name)
        if found is not None:
            found = _followed(table, found)
            # A user's own may leave out whose it is.
            provider = found.get("litellm_provider") or (shipped().entries.get(name) or {}).get("litellm_provider")
            if family is None or provider is None or _family(provider) == family:
                return found
    return None


def _dearest(table: Table, names: Iterable[tuple[str, str | None]]) -> Entry | None:
    """For a model that the table has in other geographies only: the entry of these that costs most per input token, so
    that a call is never thought cheaper than it is."""
    found = [
        entry
        for name, family in names
        if family == "bedrock"
        for sibling in _siblings(name)
        if (entry := _look_up(table, [(sibling, family)])) is not None
    ]
    return max(found, key=lambda entry: entry.get("input_cost_per_token") or 0, default=None)


def _followed(table: Table, found: Entry) -> Entry:
    """The entry that an alias stands for."""
    for _ in range(_MOST_ALIASES):
        if "alias_of" not in found:
            break
        found = table.entries.get(str(found["alias_of"]), {})
    return found

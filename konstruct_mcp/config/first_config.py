"""The text of a first config, made of what there is: a short file with comments, to be changed by its owner."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Cloud:
    """A provider of which a key makes a deployment.

    Attributes:
        provider: its name, as in `provider/model`.
        title: what people call its models.
        variable: where its key is looked for.
        model: the one that is asked: of general use, and neither the dearest nor the weakest.
    """

    provider: str
    title: str
    variable: str
    model: str


# In the order in which they are asked.
CLOUDS = (
    Cloud("anthropic", "Claude", "ANTHROPIC_API_KEY", "anthropic/claude-sonnet-4-6"),
    Cloud("openai", "GPT", "OPENAI_API_KEY", "openai/gpt-6.1-sol"),
    Cloud("gemini", "Gemini", "GEMINI_API_KEY", "gemini/gemini-3.5-flash"),
    Cloud("mistral", "Mistral", "MISTRAL_API_KEY", "mistral/mistral-large-latest"),
    Cloud("deepseek", "DeepSeek", "DEEPSEEK_API_KEY", "deepseek/deepseek-v4-pro"),
    Cloud("xai", "Grok", "XAI_API_KEY", "xai/grok-4.7"),
)


@dataclass(frozen=True, slots=True)
class Local:
    """A server on this machine.

    Attributes:
        title: what people call it.
        provider: as in `provider/model`.
        models: those that it has, the one to ask first.
        api_base: its address, as the config says it.
    """

    title: str
    provider: str
    models: tuple[str, ...]
    api_base: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What goes into a first config.

    Attributes:
        clouds: in the order in which they are asked.
        locals: the same.
        embedded: whether the embedded model is asked; a group of its own, behind nobody.
        usd_per_day: what may be spent on a day; None without limit.
    """

    clouds: Sequence[Cloud] = ()
    locals: Sequence[Local] = ()
    embedded: bool = False
    usd_per_day: Decimal | None = None


def first_config(chosen: Chosen) -> str:
    """The text of the file. It needs something to ask."""
    groups: dict[str, str] = {}
    lines = [
        "# Written by `konstruct-mcp init`; change it as you like. `konstruct-mcp config validate` checks it, and a",
        "# server that runs takes up what you save. No key is in here: they are in the environment or the keychain.",
        "",
        "model_list:  # entries of one name are a group; lower `order` is asked first",
    ]
    for order, cloud in enumerate(chosen.clouds, 1):
        params = f"model: {cloud.model}, api_key: os.environ/{cloud.variable}"
        lines += _entry("quality", params, order)
        groups["quality"] = f"hardest tasks; {_then(one.title for one in chosen.clouds)}"
    for order, local in enumerate(chosen.locals, 1):
        params = f"model: {_text(f'{local.provider}/{local.models[0]}')}, api_base: {_text(local.api_base)}"
        lines += _entry("local", params, order)
        groups["local"] = f"on this machine; nothing leaves it ({_then(one.title for one in chosen.locals)})"
    if chosen.embedded:
        lines += _entry("embedded", "model: embedded/SmolLM2-135M-Instruct, temperature: 0", 1)
        groups["embedded"] = "a tiny model inside this server, for trying it out"
    if "quality" in groups and "local" in groups:
        lines += ["", "router_settings:", "  fallbacks:", "    - quality: [local]  # which answers where no other does"]
    lines += ["", "konstruct:", f"  default_group: {next(iter(groups))}  # of a call that names none"]
    if chosen.usd_per_day is not None:
        lines += [f"  budgets: [{{usd: {chosen.usd_per_day}, per: day}}]  # at most so many dollars a day"]
    elif chosen.clouds:
        lines += ["  # budgets: [{usd: 5, per: day}]  # at most so many dollars a day"]
    lines += [
        "  files:  # an assistant may name files in these folders; Claude Code says here in which project it is",
        "    roots: [os.environ/CLAUDE_PROJECT_DIR]",
    ]
    lines += ["  groups:  # by these lines an assistant chooses"]
    lines += [f"    {name}: {{description: {_text(described)}}}" for name, described in groups.items()]
    return "\n".join([*lines, ""])


def _entry(group: str, params: str, order: int) -> list[str]:
    return [f"  - model_name: {group}", f"    litellm_params: {{{params}, order: {order}}}"]


def _text(text: str) -> str:
    """As YAML reads it whatever it holds: JSON's texts are YAML's too."""
    return json.dumps(text, ensure_ascii=False)


def _then(titles: Iterable[str]) -> str:
    return ", then ".join(titles)

"""The built-in config, fitted to what there is: which of Ollama's models it asks, and which group is the default.

What there is of keys is read with the config. What there is of Ollama only a look at it can tell, which is made when
somebody first asks for something, and never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from konstruct_mcp.config import embedded
from konstruct_mcp.config.environment import is_unexpanded
from konstruct_mcp.config.model import Config, Deployment, Group
from konstruct_mcp.config.provider_needs import variables

OLLAMA = "ollama/"
_MODEL = "qwen3:32b"  # what the built-in config asks of Ollama where that has it
PREFERRED = ("quality", "balanced", "embedded")  # as the default group, the first one that is set up
_KEYS = "ANTHROPIC_API_KEY or OPENAI_API_KEY"
_WAYS_ON = f"run `konstruct-mcp init`, or set {_KEYS}"


@dataclass(frozen=True, slots=True)
class OllamaSeen:
    """What a look at Ollama has found.

    Attributes:
        is_there: whether it answers.
        models: the chat models that are installed on its machine, the largest first.
    """

    is_there: bool
    models: tuple[str, ...] = ()


def prepare(document: dict[str, Any], environ: Mapping[str, str], seen: OllamaSeen | None) -> None:
    """Fit the document of the built-in config, before it is read.

    Args:
        seen: what Ollama has; None where nobody has looked, or it did not say.
    """
    entries = document["model_list"]
    if not embedded.installed():  # without its extra it could never be called
        ours = {e["model_name"] for e in entries if e["litellm_params"]["model"].startswith("embedded/")}
        document["model_list"] = entries = [e for e in entries if e["model_name"] not in ours]
        for name in ours:
            document["konstruct"]["groups"].pop(name, None)
    model = _named(environ) or _installed(seen)
    for entry in entries:
        if entry["litellm_params"]["model"].startswith(OLLAMA):
            entry["litellm_params"]["model"] = f"{OLLAMA}{model}"


def _named(environ: Mapping[str, str]) -> str:
    """The model of Ollama's that the environment names; "" where it names none."""
    name = environ.get("KONSTRUCT_OLLAMA_MODEL", "").strip().removeprefix(OLLAMA).removeprefix("ollama_chat/")
    return "" if is_unexpanded(name) else name


def _installed(seen: OllamaSeen | None) -> str:
    return _MODEL if seen is None or not seen.models or _MODEL in seen.models else seen.models[0]


def fitted(config: Config, environ: Mapping[str, str], seen: OllamaSeen | None) -> Config:
    """The built-in config as it is used: what Ollama lacks makes its deployments unavailable, and the default group is
    the first of those preferred that can be asked."""
    lacking = _lacking(environ, seen)
    groups = (
        {name: _without_ollama(group, lacking) for name, group in config.groups.items()} if lacking else config.groups
    )
    default = next((name for name in PREFERRED if name in groups and groups[name].is_set_up), config.default_group)
    is_set_up = any(group.is_set_up for name, group in groups.items() if name != "embedded")
    return replace(
        config,
        groups=MappingProxyType(groups),
        default_group=default,
        default_reason=_reason(groups[default], seen),
        ways_on="" if is_set_up else _WAYS_ON,
    )


def _lacking(environ: Mapping[str, str], seen: OllamaSeen | None) -> str | None:
    """Why nothing can be asked of Ollama; None where it can be, as far as is known."""
    if seen is None:
        return None
    if not seen.is_there:
        return "no Ollama answers"
    return None if seen.models or _named(environ) else f"Ollama has no chat model; `ollama pull {_MODEL}` fetches one"


def _without_ollama(group: Group, why: str) -> Group:
    return replace(group, deployments=tuple(_unavailable(one, why) for one in group.deployments))


def _unavailable(deployment: Deployment, why: str) -> Deployment:
    if not deployment.model.startswith(OLLAMA) or deployment.unavailable is not None:
        return deployment
    return replace(deployment, unavailable=why)


def _reason(default: Group, seen: OllamaSeen | None) -> str:
    """Why a group is the default one, as the end of a sentence."""
    first = next((deployment for deployment in default.deployments if deployment.unavailable is None), None)
    if first is None:
        return f"nothing is set up: {_WAYS_ON}"
    provider, _, model = first.model.partition("/")
    if provider == "embedded":
        return f"no key is set and no Ollama can be asked; for a stronger one {_WAYS_ON}"
    if provider != "ollama":
        return f"{next(iter(variables()[provider]))} is set"
    return (
        f"no key is set, and Ollama answers with {model}" if seen else "no key is set; Ollama is asked, if it is there"
    )

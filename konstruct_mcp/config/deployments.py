"""Entries of `model_list` into deployments.

An entry makes one deployment, or one for each of several organizations. What it lacks makes the deployment unavailable,
with the reason; it does not refuse the config, because the other deployments can be called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from konstruct_mcp.config import embedded
from konstruct_mcp.config.cloud_credentials import region_params
from konstruct_mcp.config.defaults import Defaults
from konstruct_mcp.config.environment import KEYRING_REFERENCE, REFERENCE, is_reference, reference, value_of
from konstruct_mcp.config.findings import NO_NAME, Findings, is_nothing
from konstruct_mcp.config.litellm_keys import typed
from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.model_fields import is_price, merged, sound
from konstruct_mcp.config.model_lookup import Models
from konstruct_mcp.config.model_tables import CHAT_MODES, embeds, is_mode
from konstruct_mcp.config.param_checks import check_address, check_prices, effective, make_sendable, more_prices
from konstruct_mcp.config.provider_needs import (
    Requirements,
    asks_for_key,
    is_provider,
    missing_files,
    provider_of,
    requirements_of,
)
from konstruct_mcp.config.references import UNSET, References, ignore
from konstruct_mcp.config.sections import LiteLLMParams, ModelEntry, ModelInfo
from konstruct_mcp.config.wildcards import is_pattern
from konstruct_mcp.core.errors import EmbeddedError
from konstruct_mcp.core.text import cut

_NO_MODEL = "(no model)"
_ENVIRONMENTS = ("development", "staging", "production")
_NAMES = {"base_url": "api_base"}
# The other name of a key: a default does not count where the deployment has it by this name.
_OTHER_NAMES = {
    "api_base": "base_url",
    "vertex_project": "vertex_ai_project",
    "vertex_location": "vertex_ai_location",
}
_CHAT_MODES = (None, *CHAT_MODES)
# Without these there is nobody to call. Another key whose variable is not set is left out, as in LiteLLM.
_NEEDED = ("model", "api_base", "base_url", "api_key")
_WINDOWS = {"embedded": embedded.CONTEXT_TOKENS}  # of the servers that konstruct-mcp starts
_MODELS_WITHOUT_PROVIDER = (
    (re.compile(r"(ft:)?(gpt-|o\d|chatgpt-)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
)


@dataclass(frozen=True, slots=True)
class _Resolved:
    """The litellm_params of a deployment, before they are parsed.

    Attributes:
        params: with references resolved, checked; without those that cannot be used.
        names: key → the variable that its value came from.
        written: as the file has them, with defaults and what the environment implies.
        is_keyless: whether its server asks for no key.
    """

    params: dict[str, Any]
    names: Mapping[str, str | None]
    written: Mapping[str, Any]
    is_keyless: bool


class DeploymentReader:
    """Makes deployments of entries.

    Attributes:
        embedded: group → the place of its embedded deployment.
        shown: the entries that became deployments, as they are written; to be masked before they are shown.
    """

    def __init__(
        self,
        findings: Findings,
        references: References,
        tables: Models,
        defaults: Defaults,
        credentials: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.embedded: dict[str, str] = {}
        self.shown: list[dict[str, Any]] = []
        self._findings = findings
        self._references = references
        self._tables = tables
        self._defaults = defaults
        self._credentials = credentials

    def is_for_here(self, entry: ModelEntry) -> bool:
        """Whether an entry is for the environment that LITELLM_ENVIRONMENT names. Where it names none, the entry is
        used, and its deployment is unavailable."""
        environments = entry.model_info.get("supported_environments")
        return not isinstance(environments, list) or self._environment() in (None, *environments)

    def _environment(self) -> str | None:
        """The environment that LITELLM_ENVIRONMENT names, if it is one that LiteLLM knows."""
        here = self._references.value("LITELLM_ENVIRONMENT")
        return here if here in _ENVIRONMENTS else None

    def is_chat(self, entry: ModelEntry) -> bool:
        """Whether an entry is a chat model: as the config says, else as the tables of model data say."""
        mode = entry.model_info.get("mode")
        if isinstance(mode, str) and is_mode(mode):  # any other word is ignored, as in LiteLLM
            return mode in _CHAT_MODES
        params = entry.litellm_params
        model = params.get("model")
        if (name := reference(model)) is not None:
            model = value_of(name, self._references.environ)
        shown, _ = self.display({**params, "model": model})
        # A variable that is not set is named where the deployment is made.
        base = self._references.resolve(params.get("base_model") or entry.model_info.get("base_model"), "", ignore)
        known = self._tables.find(shown, {"base_model": base})
        return known["mode"] in _CHAT_MODES if "mode" in known else base is not None or not embeds(shown)

    def deployments(self, place: str, entry: ModelEntry, earlier: Sequence[Deployment]) -> list[Deployment]:
        """The deployments of an entry.

        Args:
            place: where the entry is.
            entry: what is written there.
            earlier: the deployments that its group has already.
        """
        organizations = entry.litellm_params.get("organization")
        if not isinstance(organizations, list):
            organizations = [organizations]
        elif not organizations:
            organizations = [None]
        found: list[Deployment] = []
        for organization in organizations:
            params = {**entry.litellm_params, "organization": organization}
            made = self._deployment(place, entry.model_name, params, entry.model_info, [*earlier, *found])
            found += [] if made is None else [made]
        return found

    def display(self, params: dict[str, Any]) -> tuple[str, str]:
        """`provider/model` as users read it, and the provider: empty where none is known.

        Where LiteLLM would not find the provider by itself, `custom_llm_provider` is added to `params`.
        """
        model, provider = params["model"], params.get("custom_llm_provider")
        if not isinstance(model, str):
            return "", ""
        model = model.strip()
        if isinstance(provider, str) and provider:
            model = model if model.startswith(f"{provider}/") else f"{provider}/{model}"
        elif not is_provider(model.partition("/")[0]):
            address = params.get("api_base", params.get("base_url"))
            provider = provider_of(model, address if isinstance(address, str) else None)
            if not provider:
                provider = next((one for pattern, one in _MODELS_WITHOUT_PROVIDER if pattern.match(model)), "")
                if provider:
                    params["custom_llm_provider"] = provider
            model = f"{provider}/{model}" if provider else model
        provider, slash, name = model.partition("/")
        if provider == "ollama_chat":
            provider, model = "ollama", f"ollama/{name}"
        elif provider == "embedded" and (file := self._references.environ.get("KONSTRUCT_GGUF", "").strip()):
            model = f"embedded/{cut(Path(file).stem)}"
        return model, provider if slash else ""

    # ---- one deployment, step by step

    def _deployment(
        self,
        place: str,
        group: str,
        given: Mapping[str, Any],
        model_info: Mapping[str, Any],
        earlier: Sequence[Deployment],
    ) -> Deployment | None:
        here = f"{place}.litellm_params"
        if not is_nothing(given.get("max_budget")):
            self._findings.limits.append((here, group, given))
        reasons: list[str] = []
        raw = effective(here, given, self._credentials, self._references, self._findings, reasons)
        named = self._references.resolve(raw.get("model"), f"{here}.model", ignore)
        if named is UNSET:
            named = raw["model"]  # so that the variable can be named
        named = _NO_MODEL if named is None else named
        shown = self._references.resolve(raw, here, ignore) | {"model": named}
        model, provider = self.display(shown)
        for key, value in self._defaults.of(provider).items():
            if key not in raw and _OTHER_NAMES.get(key) not in raw:
                raw[key] = value
        resolved = self._resolved(here, raw, shown, model, provider, reasons)
        if isinstance(model_info.get("supported_environments"), list) and self._environment() is None:
            reasons.append(f"LITELLM_ENVIRONMENT says none of {', '.join(_ENVIRONMENTS)}; it is for some")
        self._check(here, resolved, reasons)
        if provider == "embedded":
            self.embedded[group] = place
            try:
                embedded.find_model(self._references.process)
            except EmbeddedError as error:
                reasons.append(error.message)
        notes = self._references.resolve(model_info, f"{place}.model_info", self._findings.left_out)
        made = self._made(place, group, (model, provider), resolved, notes, earlier, reasons)
        if made is not None:
            self.shown.append({"model_name": group, "litellm_params": resolved.written, "model_info": dict(model_info)})
        return made

    def _resolved(
        self,
        here: str,
        raw: dict[str, Any],
        shown: Mapping[str, Any],
        model: str,
        provider: str,
        reasons: list[str],
    ) -> _Resolved:
        """The params with references resolved, and with those that the environment implies.

        Args:
            here: the place of the litellm_params.
            raw: those that count, as they are written.
            shown: the same with references resolved, and perhaps with a `custom_llm_provider`.
            model: `provider/model` as users read it.
            provider: its provider.
            reasons: why the deployment cannot be called.
        """

        def unset(where: str, name: str | None) -> None:
            key = where.removeprefix(f"{here}.")
            if key in _NEEDED and not (key == "api_key" and not asks_for_key(provider)):
                reasons.append(self._references.not_set(name) if name else f"{key} {NO_NAME}")
            else:
                self._findings.left_out(where, name)

        resolved = self._references.resolve(raw, here, unset)
        resolved.setdefault("model", shown["model"])
        if "custom_llm_provider" in shown:
            resolved.setdefault("custom_llm_provider", shown["custom_llm_provider"])
        needs = self._needs(model, provider, raw, resolved)
        implied = {key: f"{REFERENCE}{name}" for key, name in needs.implied.items()}
        raw = raw | implied
        resolved |= self._references.resolve(implied, here, ignore)
        # Of a reference to the keychain it is said already, and why.
        reasons += [line for line in needs.missing if not line.startswith(KEYRING_REFERENCE)]
        names = {key: reference(value) for key, value in raw.items()}
        return _Resolved(resolved, names, raw, needs.keyless)

    def _check(self, here: str, resolved: _Resolved, reasons: list[str]) -> None:
        check_address(here, resolved.params, resolved.names, self._references.environ, self._findings, reasons)
        make_sendable(here, resolved.params, self._findings)
        reasons += missing_files(resolved.params)

    def _made(
        self,
        place: str,
        group: str,
        identity: tuple[str, str],
        resolved: _Resolved,
        notes: dict[str, Any],
        earlier: Sequence[Deployment],
        reasons: Sequence[str],
    ) -> Deployment | None:
        """The deployment, of checked params and `notes`, its model_info. None where the params cannot be parsed."""
        model, provider = identity
        here, defaults = f"{place}.litellm_params", self._defaults
        for section, name in ((resolved.params, here), (notes, f"{place}.model_info")):
            check_prices(name, section, self._findings)
        params = self._findings.parse(LiteLLMParams, resolved.params, here, resolved.names, needed=("model",))
        info = self._findings.parse(ModelInfo, notes, f"{place}.model_info", needed=()) or ModelInfo()
        if params is None:
            return None
        call = self._call(place, provider, params, info, is_keyless=resolved.is_keyless)
        if params.timeout is not None:
            self._findings.time_outs.append((f"{here}.timeout", params.timeout))
        most = params.max_parallel_requests
        twins = 1 + sum(other.model == model for other in earlier)
        return Deployment(
            id=f"{group}/{len(earlier) + 1}",
            group=group,
            name=model if twins == 1 else f"{model}#{twins}",
            model=model,
            params=MappingProxyType(call),
            order=params.order,
            timeout_s=defaults.timeout_s if params.timeout is None else params.timeout,
            num_retries=defaults.num_retries if params.num_retries is None else params.num_retries,
            cooldown_s=defaults.cooldown_s if params.cooldown_time is None else params.cooldown_time,
            weight=params.weight,
            rpm=params.rpm,
            tpm=params.tpm,
            max_parallel_requests=(defaults.max_parallel_requests if most is None else most) or None,
            input_cost=call.get("input_cost_per_token"),
            output_cost=call.get("output_cost_per_token"),
            max_output_tokens=info.max_output_tokens,
            context_window=info.max_input_tokens or info.max_tokens or _WINDOWS.get(provider),
            supports=MappingProxyType(self._abilities(provider) | info.supports),
            data=MappingProxyType(merged(_without_prices(notes), self._tables.find(model, call))),
            unavailable="; ".join(dict.fromkeys(reasons)) or None,
            secrets=frozenset(self._references.texts_of({**resolved.written, "model": None})),
        )

    def _call(
        self, place: str, provider: str, params: LiteLLMParams, info: ModelInfo, *, is_keyless: bool
    ) -> dict[str, Any]:
        """What LiteLLM is called with, beside the request."""
        is_local = provider in ("ollama", "embedded")
        others = {key: value for key, value in (params.model_extra or {}).items() if value is not None}
        others = {key: typed(key, value) for key, value in others.items() if not is_price(key)}
        for prices, name in ((info, f"{place}.model_info"), (params, f"{place}.litellm_params")):
            others |= more_prices(name, prices, self._findings)
        others |= region_params(provider, params.model, others, lambda name: value_of(name, self._references.environ))
        if is_local:
            others.pop("custom_llm_provider", None)  # it is settled: these are reached through a client of our choice
        input_cost, output_cost = (
            next((value for value in given if value is not None), 0.0 if is_local else None)
            for given in (
                (params.input_cost_per_token, info.input_cost_per_token),
                (params.output_cost_per_token, info.output_cost_per_token),
            )
        )
        call = {
            "model": params.model,
            "api_base": params.api_base,
            "api_key": params.api_key or ("not-needed" if is_keyless else None),
            "base_model": info.base_model,
            "input_cost_per_token": input_cost,
            "output_cost_per_token": output_cost,
        }
        return {key: value for key, value in call.items() if value is not None} | others

    def _abilities(self, provider: str) -> dict[str, bool]:
        """What is known of the two local servers, whose models LiteLLM's table does not have."""
        if provider == "ollama":
            return {"structured_output": True}
        if provider == "embedded":
            # SmolLM2's chat template has no tools; a file that the user chose may have them.
            tools = {} if self._references.value("KONSTRUCT_GGUF") else {"tools": False}
            return tools | {"vision": False, "structured_output": True}
        return {}

    def _needs(self, model: str, provider: str, raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> Requirements:
        """What a deployment needs before it can be called; `raw` are its parameters as they are written."""
        if model == _NO_MODEL:
            return Requirements(missing=("its litellm_params have no model",))
        given = {_NAMES.get(key, key): value for key, value in resolved.items() if value is not None}
        if provider == "ollama" and "api_base" not in given:
            return Requirements({"api_base": "OLLAMA_BASE_URL"})
        unset = {
            _NAMES.get(key, key): name
            for key, value in raw.items()
            if resolved.get(key) is None and (name := reference(value))
        }
        if reference(model) or is_pattern(model.partition("/")[0]):  # then the provider is not known
            return Requirements()
        for key, value in raw.items():
            if is_reference(value) and reference(value) is None:  # what is wrong there has been said
                given.setdefault(_NAMES.get(key, key), value)
        looked_up: set[str] = set()

        def lookup(name: str) -> str | None:
            if (value := value_of(name, self._references.environ)) is not None:
                looked_up.add(name)
            return value

        found = requirements_of(provider, given, unset, lookup)
        self._references.needed |= looked_up - {*found.implied.values()}
        return found


def _without_prices(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What `model_info` says of the model. Its prices are among the params."""
    return {key: value for key, value in sound(notes).items() if value is not None and not is_price(key)}

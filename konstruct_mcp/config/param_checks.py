"""Checks of `litellm_params`, value by value: what counts, what can be sent, what is a price.

Each function names what it leaves out in `Findings`. What makes a deployment impossible to call goes to `reasons`: that
deployment is unavailable then, and the others can be called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from konstruct_mcp.config.environment import is_placeholder, is_reference, is_sendable, is_url, shown_name, value_of
from konstruct_mcp.config.findings import Findings, is_nothing
from konstruct_mcp.config.litellm_keys import is_without_effect
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.config.references import UNSET, References
from konstruct_mcp.config.sections import DOLLARS_PER_TOKEN, MOST_DOLLARS, Prices
from konstruct_mcp.core.text import cut

_LIMITS = ("max_budget", "budget_duration")
_PLACEHOLDER = "has a placeholder, which nobody fills in here; a variable is os.environ/NAME by itself"
# Prices that a deployment may have, also in model_info, beside those per token in and out. LiteLLM has yet others.
_MORE_PRICES = re.compile(
    r"((input|output)_cost_per_token|cache_(read|creation)_input_token_cost|output_cost_per_reasoning_token)"
    r"(_above_\d+(k_tokens|hr))*(_(priority|flex|ultrafast|balanced))?"
)


def effective(
    place: str,
    given: Mapping[str, Any],
    credentials: Mapping[str, Mapping[str, Any]],
    references: References,
    findings: Findings,
    reasons: list[str],
) -> dict[str, Any]:
    """The litellm_params of an entry that have an effect here, with those that its credential adds."""
    raw: dict[str, Any] = {}
    for key, value in given.items():
        if key in _LIMITS:
            continue  # compared with our budgets, see `litellm_budgets`
        if is_without_effect(key):
            findings.idle += [] if is_nothing(value) else [f"{place}.{key}"]
        elif value is None or (isinstance(value, str) and not value.strip()):
            continue
        elif key == "drop_params" and isinstance(value, list | dict):
            findings.lost.append(f"{place}.{key}: should be true or false; a list is additional_drop_params; left out")
        elif close := findings.meant(key):
            findings.lost.append(f"{place}.{cut(key)}: unknown key, which is not sent; did you mean {close}?")
            if close in ("api_base", "base_url", "api_key") and given.get(close) is None:
                reasons.append(f"{cut(key)} is no key of LiteLLM's; did you mean {close}?")
        else:
            raw[key] = value
    if (credential := raw.pop("litellm_credential_name", None)) is not None:
        name = references.resolve(credential, f"{place}.litellm_credential_name", findings.left_out)
        if isinstance(name, str) and name in credentials:
            raw = {**credentials[name], **raw}
        elif name is not UNSET:
            findings.lost.append(f"{place}.litellm_credential_name: no such name in credential_list; left out")
    # As in LiteLLM: `base_url` wins over `api_base`, and the retries of the Router over those of the provider's client.
    for key, loser in (("base_url", "api_base"), ("num_retries", "max_retries")):
        if key in raw and loser in raw:
            findings.lost.append(f"{place}.{loser}: is {key} by another name, which counts")
            del raw[loser]
    return raw


def check_address(
    place: str,
    resolved: dict[str, Any],
    names: Mapping[str, str | None],
    environ: Mapping[str, str],
    findings: Findings,
    reasons: list[str],
) -> None:
    """Take out an address that no request can go to, or a key that none can carry.

    Args:
        place: of the litellm_params.
        resolved: the litellm_params with references resolved; what is wrong is taken out of them.
        names: key → the variable that its value came from, which is named in its place.
        environ: the environment.
        findings: where losses go.
        reasons: why the deployment cannot be called.
    """
    model = resolved.get("model")
    if isinstance(model, str) and is_placeholder(model) and not is_reference(model):
        reasons.append(f"model {_PLACEHOLDER}")
    for key, is_sound, why in (
        ("api_base", is_url, "should be an http:// or https:// address with a host"),
        ("base_url", is_url, "should be an http:// or https:// address with a host"),
        ("api_key", is_sendable, "holds characters that cannot be sent"),
    ):
        value = resolved.get(key)
        if isinstance(value, str) and key == "api_key" and is_placeholder(value.strip()):
            findings.lost.append(f"{place}.{key}: {_PLACEHOLDER}")
            reasons.append(f"{cut(shown_name(names.get(key) or key))} {_PLACEHOLDER}")
            del resolved[key]
        elif value is not None and not (isinstance(value, str) and is_sound(value.strip())):
            name = names.get(key) or key
            if name == "OLLAMA_BASE_URL" and value_of("OLLAMA_API_BASE", environ) == value:
                name = "OLLAMA_API_BASE"
            elif name == "OLLAMA_BASE_URL" and name not in environ:  # then its value was made of OLLAMA_HOST
                name, why = "OLLAMA_HOST", "should be a host, a host with a port, or an http:// address"
            reasons.append(f"{cut(shown_name(name))} {why if isinstance(value, str) else 'should be text'}")
            del resolved[key]


def make_sendable(place: str, resolved: dict[str, Any], findings: Findings) -> None:
    """Give headers and switches the type that they are sent or read with, and take out those that cannot have it."""
    for key in ("headers", "extra_headers", "default_headers"):
        given = resolved.get(key)
        if isinstance(given, dict):
            resolved[key] = {}
            for name, value in given.items():
                text = _header(value)
                if text is not None and is_sendable(text) and is_sendable(name, " :"):
                    resolved[key][name] = text
                else:
                    findings.lost.append(f"{place}.{key}.{cut(name)}: cannot be sent in a header; left out")
        elif given is not None:
            findings.lost.append(f"{place}.{key}: should be an object; left out")
            del resolved[key]
    if "drop_params" in resolved:
        resolved["drop_params"] = is_true(resolved["drop_params"])
    if not isinstance(resolved.get("additional_drop_params", []), list):
        findings.lost.append(f"{place}.additional_drop_params: should be a list; left out")
        del resolved["additional_drop_params"]


def _header(value: Any) -> str | None:
    """The text of a header's value; None for what cannot be one."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int | float) else None


def is_true(value: Any) -> bool:
    """Whether a switch is on, which may be written as a number or as text."""
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "1"))


def check_prices(place: str, section: dict[str, Any], findings: Findings) -> None:
    """Take out numbers that are no price of a token, and warn of those that look like the price of a million tokens."""
    for key in [key for key in section if is_price(key)]:
        value = section[key]
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            price = float(value)
        except ValueError:
            continue
        if not 0 <= price <= MOST_DOLLARS:
            findings.lost.append(f"{place}.{cut(key)}: is no price of a token in US dollars; left out")
            del section[key]
        elif price > 1:
            findings.lost.append(f"{place}.{cut(key)}: is more than a dollar for each token; it is not per million")


def more_prices(place: str, section: Prices, findings: Findings) -> dict[str, float]:
    """The prices of a section beside those per token in and out, in US dollars."""
    prices = {}
    for key, value in (section.model_extra or {}).items():
        if value is None or not is_price(key):
            continue
        if not _MORE_PRICES.fullmatch(key):
            findings.idle.append(f"{place}.{cut(key)}")
            continue
        try:
            prices[key] = DOLLARS_PER_TOKEN.validate_python(value)
        except ValidationError:
            findings.lost.append(f"{place}.{cut(key)}: should be US dollars per token; left out")
    return prices

"""What a deployment needs before LiteLLM could call it: a known provider, a package, a key, an address.

Which environment variables may hold a provider's key, and what else it needs, is in `access.json`. `.ci/access_data.py`
makes that file by watching LiteLLM at work, because importing LiteLLM here would take seconds. The clouds that find
their credentials by themselves are in `cloud_credentials`.

A deployment that could be called is never said to be unavailable. Where only the network could tell, it is taken to be
ready, and its first call says more.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from konstruct_mcp.config.cloud_credentials import (
    GOOGLE_CREDENTIALS,
    LOGINS,
    ON_AWS,
    ON_AZURE,
    Lookup,
    entra_ways,
    exists,
    is_json,
    missing_on_aws,
    missing_on_google,
    without_route,
)
from konstruct_mcp.config.packages import installed, needs_package
from konstruct_mcp.core.text import cut, quoted


@dataclass(frozen=True, slots=True)
class Requirements:
    """How a deployment gets its address and its key, and what it lacks.

    Attributes:
        implied: key of litellm_params → the environment variable that LiteLLM would take its value from.
        keyless: whether its server asks for no key. LiteLLM insists on one, so any is given.
        missing: what it lacks, one line each.
    """

    implied: Mapping[str, str] = field(default_factory=dict)
    keyless: bool = False
    missing: tuple[str, ...] = ()


@functools.cache
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads((files(__package__) / "access.json").read_text("utf-8"))
    return data


@functools.cache
def _providers_of_models() -> Mapping[str, str]:
    return {name: provider for provider, names in _data()["models"].items() for name in names.split()}


def variables() -> Mapping[str, tuple[str, ...]]:
    """provider → the environment variables that are looked at for its key, its address and whatever else it needs, in
    this order."""
    return {
        provider: tuple(name for need in rule.get("needs", ()) for name in need["names"])
        for provider, rule in _data()["providers"].items()
    }


def provider_of(model: str, api_base: str | None) -> str:
    """The provider that LiteLLM assumes for a model whose name does not begin with one; empty where it knows none."""
    for address, provider in _data()["endpoints"].items():
        if address in (api_base or ""):
            return str(provider)
    return _providers_of_models().get(model, "")


def is_provider(name: str) -> bool:
    """Whether there is a provider of this name: LiteLLM's, ours, or one that the program around us has registered."""
    return name in _data()["providers"] or name in _OURS or name in _registered()


@functools.cache
def _words_of_addresses() -> frozenset[str]:
    paths = (urlsplit("//" + address.rpartition("://")[2]).path for address in _data()["endpoints"])
    return frozenset(part for path in paths for part in path.split("/")).union(_data()["providers"])


def is_word_of_an_address(part: str) -> bool:
    """Whether a part of a URL's path is common in the addresses of providers, or names a provider."""
    return part in _words_of_addresses()


def asks_for_key(provider: str) -> bool:
    """Whether a provider asks for an API key; true where that is not known."""
    rule = _data()["providers"].get(provider)
    return provider not in _OURS and (
        rule is None or any("api_key" in need["parameters"] for need in rule.get("needs", ()))
    )


def requirements_of(provider: str, given: Mapping[str, Any], unset: Mapping[str, str], lookup: Lookup) -> Requirements:
    """What a deployment needs, and what of that is missing.

    Args:
        provider: the first part of its model; empty where it is not known.
        given: its litellm_params that have a value.
        unset: its litellm_params whose variable is not set → that variable.
        lookup: gives the value of an environment variable.
    """
    if provider in _OURS:
        return Requirements()
    rule = _data()["providers"].get(provider)
    if rule is None:
        return Requirements() if provider in _registered() else Requirements(missing=(_unknown(provider),))
    if provider == "auto_router":
        return Requirements(missing=("auto_router chooses among a LiteLLM proxy's own groups; name a model",))
    if rule.get("chat") is False:
        return Requirements(missing=(f"LiteLLM asks {provider} for no chat completions",))
    if provider in LOGINS:
        return Requirements(missing=LOGINS[provider](lookup))
    package = rule.get("package") or rule.get("instead") or ""
    if provider in ON_AWS:
        return Requirements(missing=(*without_route(given), *missing_on_aws(given, lookup)))
    if package == "google":
        return Requirements(missing=tuple(missing_on_google(given, lookup)))
    if rule.get("package") and not installed(package):
        return Requirements(missing=(needs_package(package),))
    found = _by_rule(rule, given, unset, lookup)
    if provider in ON_AZURE and "api_key" not in given and "api_key" not in found.implied:
        return _entra(found, given, lookup)
    return found


_OURS = ("ollama", "embedded")  # these are reached through a client that konstruct-mcp chooses


def _registered() -> Collection[str]:
    """The providers that the program around us has added to LiteLLM. For that it has imported LiteLLM, so there is no
    need to import it here; while it is still being imported there are none."""
    entries = getattr(sys.modules.get("litellm"), "custom_provider_map", None) or ()
    return [entry["provider"] for entry in entries]


_OWN_SERVER = "a server of your own that speaks OpenAI's format is openai/model, with an api_base"


def _unknown(provider: str) -> str:
    if not provider:
        return "LiteLLM knows no provider of such a model; write provider/model"
    known, word = sorted(_data()["providers"]), provider[:50].lower()
    longer = [one for one in known if f"{one}_".startswith(f"{word}_") or word.startswith(f"{one}_")]
    close = longer or get_close_matches(word, known, n=1, cutoff=0.8)  # `grok` is not `groq`
    advice = f"did you mean {close[0]}?" if close else _OWN_SERVER
    return f"{quoted(provider)} is no provider that LiteLLM knows; {advice}"


_TRUSTED = ("ssl_verify", "verify")
_FILES = ("ssl_certificate", "client_certificate", "client_cert", "cert", "ssl_key", "client_key")
_SWITCHES = ("", "true", "false", "1", "0", "yes", "no")


def missing_files(given: Mapping[str, Any]) -> Iterator[str]:
    """A line for each of the litellm_params that names a file that is not there. The name is not quoted: it may be a
    secret in the wrong place."""
    for key, value in given.items():
        named = list(value) if key in _FILES and isinstance(value, list | tuple) else [value]
        for one in named:
            if not isinstance(one, str):
                continue
            text = one.strip()
            if (
                key in _FILES
                or (key in _TRUSTED and text.lower() not in _SWITCHES)
                or (key in GOOGLE_CREDENTIALS and not is_json(text))
            ) and not exists(text):
                yield f"{key} names no file"


_CREDENTIAL = re.compile(r"(\w+_)?(token|secret|password|credentials?|jwt|apikey|signer|token_provider)|\w*headers")


def _by_rule(
    rule: Mapping[str, Any], given: Mapping[str, Any], unset: Mapping[str, str], lookup: Lookup
) -> Requirements:
    """What a provider with a rule in `access.json` needs: what LiteLLM was seen to look for.

    Each need is met by a parameter, else by a variable. A key is not needed where the server is not the provider's, or
    where there is another way to log in.
    """
    needs = rule.get("needs", ())
    implied: dict[str, str] = {}
    for parameter in ("api_base", "api_key"):
        name = next((name for name in rule.get(parameter, ()) if lookup(name)), None)
        if name and parameter not in given and parameter not in unset:
            implied[parameter] = name
    server = str(given.get("api_base") or lookup(implied.get("api_base", "")) or "")
    keyless, missing = False, []
    for need in needs:
        if any(key in need["parameters"] or _is_named_for(key, need["names"]) for key in given):
            continue
        named = [unset[parameter] for parameter in need["parameters"] if parameter in unset]
        name = next((name for name in need["names"] if lookup(name)), None)
        is_key = "api_key" in need["parameters"]
        is_keyless = is_key and bool(server) and (_is_near(server) or _is_ones_own(server, rule))
        if named:
            keyless = is_keyless
            missing.append(f"{cut(named[0])} is not set")
        elif name is not None:
            if parameter := need["names"][name]:
                implied[parameter] = name
                server = server or (lookup(name) or "" if parameter == "api_base" else "")
        elif is_key and any(map(_CREDENTIAL.fullmatch, given)):
            continue  # it logs in some other way, which LiteLLM may know
        elif is_keyless:
            keyless = True
        elif not (is_key and _has_another_way(rule, lookup)):
            missing.append(_not_set(list(need["names"]), need["parameters"]))
    return Requirements(implied, keyless, tuple(missing))


def _is_named_for(key: str, names: Collection[str]) -> bool:
    """Whether a parameter says what one of these variables would: `space_id` is WATSONX_SPACE_ID."""
    return any(name.lower().endswith(f"_{key}") for name in names)


def _not_set(names: list[str], parameters: list[str]) -> str:
    return f"{names[0]} is not set" if names else f"its litellm_params have no {' or '.join(parameters)}"


def _is_ones_own(server: str, rule: Mapping[str, Any]) -> bool:
    """Whether it is another server than the provider's. False where each user has an address of their own at the
    provider, because then nothing tells them apart."""
    told = any("api_base" in need["parameters"] for need in rule["needs"])
    return not told and _host(server) not in ("", rule.get("host"))


def _is_near(server: str) -> bool:
    """Whether a server is on this machine or in its private network, and so not a provider's."""
    host = _host(server)
    try:
        return ip_address(host).is_private
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".local", ".localhost", ".internal", ".lan")))


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # which is a fault of the config
        return ""


def _has_another_way(rule: Mapping[str, Any], lookup: Lookup) -> bool:
    return any(map(lookup, rule.get("parts", ()))) or ("instead" in rule and installed(rule["instead"]))


def _entra(found: Requirements, given: Mapping[str, Any], lookup: Lookup) -> Requirements:
    """What Azure needs without a key: a token, or Entra ID, from which the package azure-identity fetches one."""
    by_entra, by_oidc = entra_ways(given, lookup)
    if not (by_entra or by_oidc):
        return found
    missing = [line for line in found.missing if "_KEY is not set" not in line]
    if by_entra and not installed("azure-identity"):
        missing.append(needs_package("azure-identity"))
    return Requirements(found.implied, False, tuple(missing))

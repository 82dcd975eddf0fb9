"""What a deployment needs before LiteLLM could ask it: a provider that is known, a package, a key, an address.

Which variables a provider's key may be in, and what else it wants, comes from `access.json`, which
`.ci/access_data.py` makes by watching LiteLLM at work: to ask it here would take the seconds that its import takes.
Three clouds find their credentials in ways of their own (files, roles, logins), and two providers want a login by hand;
what is known of those is written here.

A deployment that could be asked is never said to be out of reach: where that cannot be told without the network, it is
taken to be ready, and its first call says more.
"""

from __future__ import annotations

import configparser
import functools
import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from konstruct_mcp.core.errors import install_advice
from konstruct_mcp.core.text import cut, quoted

Lookup = Callable[[str], str | None]  # the value of an environment variable, None for one that is not set


@dataclass(frozen=True, slots=True)
class Access:
    """How a deployment is reached.

    Attributes:
        implied: key of litellm_params → the variable whose value it has, as it would for LiteLLM.
        keyless: whether its server asks for no key; LiteLLM insists on one, and any will do.
        wants: what is missing before it can be asked, a line each.
    """

    implied: Mapping[str, str] = field(default_factory=dict)
    keyless: bool = False
    wants: tuple[str, ...] = ()


@functools.cache
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads((files(__package__) / "access.json").read_text("utf-8"))
    return data


@functools.cache
def _providers_of_models() -> Mapping[str, str]:
    return {name: provider for provider, names in _data()["models"].items() for name in names.split()}


def variables() -> Mapping[str, tuple[str, ...]]:
    """provider → the variables in which a key, an address or whatever else it needs is looked for, in this order."""
    return {
        provider: tuple(name for need in rule.get("needs", ()) for name in need["names"])
        for provider, rule in _data()["providers"].items()
    }


def provider_of(model: str, api_base: str | None) -> str:
    """The provider that LiteLLM takes a model to be of whose name does not begin with one; empty if it knows none."""
    for address, provider in _data()["endpoints"].items():
        if address in (api_base or ""):
            return str(provider)
    return _providers_of_models().get(model, "")


def is_provider(name: str) -> bool:
    """Whether LiteLLM, or we, know a provider of this name, or the program around us has registered it."""
    return name in _data()["providers"] or name in _OURS or name in _registered()


@functools.cache
def _words_of_addresses() -> frozenset[str]:
    paths = (urlsplit("//" + address.rpartition("://")[2]).path for address in _data()["endpoints"])
    return frozenset(part for path in paths for part in path.split("/")).union(_data()["providers"])


def is_word_of_an_address(part: str) -> bool:
    """Whether a part of a path stands in the addresses of providers, or names one."""
    return part in _words_of_addresses()


def asks_for_key(provider: str) -> bool:
    """Whether a provider asks for an API key, or nobody knows."""
    rule = _data()["providers"].get(provider)
    return provider not in _OURS and (
        rule is None or any("api_key" in need["parameters"] for need in rule.get("needs", ()))
    )


def access(provider: str, given: Mapping[str, Any], missing: Mapping[str, str], lookup: Lookup) -> Access:
    """What a deployment needs, and what it has.

    Args:
        provider: the first part of its model; empty where nobody knows it.
        given: its litellm_params that have a value.
        missing: those whose value is in a variable that is not set → that variable.
        lookup: of variables.
    """
    if provider in _OURS:
        return Access()
    rule = _data()["providers"].get(provider)
    if rule is None:
        return Access() if provider in _registered() else Access(wants=(_unknown(provider),))
    if provider == "auto_router":
        return Access(wants=("auto_router chooses among a LiteLLM proxy's own groups; name a model",))
    if rule.get("chat") is False:
        return Access(wants=(f"LiteLLM asks {provider} for no chat completions",))
    if provider in _LOGINS:
        return Access(wants=_LOGINS[provider](lookup))
    package = rule.get("package") or rule.get("instead") or ""
    if provider in _ON_AWS:
        return Access(wants=(*_unrouted(given), *_aws(given, lookup)))
    if package == "google":
        return Access(wants=tuple(_google(given, lookup)))
    if rule.get("package") and not installed(package):
        return Access(wants=(needs_package(package),))
    found = _by_rule(rule, given, missing, lookup)
    if provider in _ON_AZURE and "api_key" not in given and "api_key" not in found.implied:
        return _entra(found, given, lookup)
    return found


_OURS = ("ollama", "embedded")  # reached through a client of our choice


def _registered() -> Collection[str]:
    """The providers that a program which loads us has added to LiteLLM: it has imported LiteLLM for that, and we need
    not. One that is still being imported has none yet."""
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
_GOOGLES = ("vertex_credentials", "vertex_ai_credentials")
_SWITCHES = ("", "true", "false", "1", "0", "yes", "no")


def absent(given: Mapping[str, Any]) -> Iterator[str]:
    """Of litellm_params, those that name a file where there is none, a line each. What they name is not told."""
    for key, value in given.items():
        named = list(value) if key in _FILES and isinstance(value, list | tuple) else [value]
        for one in named:
            if not isinstance(one, str):
                continue
            text = one.strip()
            if (
                key in _FILES
                or (key in _TRUSTED and text.lower() not in _SWITCHES)
                or (key in _GOOGLES and not _is_json(text))
            ) and not _exists(text):
                yield f"{key} names no file"


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


# -- what LiteLLM was seen to look for ---------------------------------------------------------------------------------

_CREDENTIAL = re.compile(r"(\w+_)?(token|secret|password|credentials?|jwt|apikey|signer|token_provider)|\w*headers")


def _by_rule(rule: Mapping[str, Any], given: Mapping[str, Any], missing: Mapping[str, str], lookup: Lookup) -> Access:
    needs = rule.get("needs", ())
    implied: dict[str, str] = {}
    for parameter in ("api_base", "api_key"):
        name = next((name for name in rule.get(parameter, ()) if lookup(name)), None)
        if name and parameter not in given and parameter not in missing:
            implied[parameter] = name
    server = str(given.get("api_base") or lookup(implied.get("api_base", "")) or "")
    keyless, wants = False, []
    for need in needs:
        if any(key in need["parameters"] or _is_named_for(key, need["names"]) for key in given):
            continue
        named = [missing[parameter] for parameter in need["parameters"] if parameter in missing]
        name = next((name for name in need["names"] if lookup(name)), None)
        is_key = "api_key" in need["parameters"]
        is_keyless = is_key and bool(server) and (_is_near(server) or _is_ones_own(server, rule))
        if named:
            keyless = is_keyless
            wants.append(f"{cut(named[0])} is not set")
        elif name is not None:
            if parameter := need["names"][name]:
                implied[parameter] = name
                server = server or (lookup(name) or "" if parameter == "api_base" else "")
        elif is_key and any(map(_CREDENTIAL.fullmatch, given)):
            continue  # in a way of its own, which LiteLLM may know
        elif is_keyless:
            keyless = True
        elif not (is_key and _has_another_way(rule, lookup)):
            wants.append(_not_set(list(need["names"]), need["parameters"]))
    return Access(implied, keyless, tuple(wants))


def _is_named_for(key: str, names: Collection[str]) -> bool:
    """Whether a parameter is what such a variable would say: `space_id`, of WATSONX_SPACE_ID."""
    return any(name.lower().endswith(f"_{key}") for name in names)


def _not_set(names: list[str], parameters: list[str]) -> str:
    return f"{names[0]} is not set" if names else f"its litellm_params have no {' or '.join(parameters)}"


def _is_ones_own(server: str, rule: Mapping[str, Any]) -> bool:
    """Whether it is another server than the provider's. Where each user has an address there, that tells nothing."""
    told = any("api_base" in need["parameters"] for need in rule["needs"])
    return not told and _host(server) not in ("", rule.get("host"))


def _is_near(server: str) -> bool:
    """Whether it is on this machine or in its network: no provider's."""
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


# -- packages ----------------------------------------------------------------------------------------------------------

_EXTRAS = {"boto3": "bedrock", "google-auth": "vertex", "azure-identity": "azure"}
_MODULES = {"google-auth": "google.auth", "azure-identity": "azure.identity"}


def installed(package: str) -> bool:
    """Whether it can be imported; it is not."""
    try:
        return importlib.util.find_spec(_MODULES.get(package, package)) is not None
    except (ImportError, ValueError):  # not even what it would be part of
        return False


def needs_package(package: str) -> str:
    """That it is missing, and what would install it."""
    extra = _EXTRAS.get(package)
    return (
        f"needs {package}: {install_advice(extra) if extra else f'uv pip install {package}, or pip install {package}'}"
    )


# -- clouds with credentials of their own ------------------------------------------------------------------------------

_ON_AWS = ("bedrock", "sagemaker", "sagemaker_chat", "sagemaker_nova")
_ON_AZURE = ("azure", "azure_text", "azure_ai")
_AWS_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_PROFILE_NAME", "AWS_ROLE_NAME"),
    *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
_GOOGLE_VARIABLES = (
    *("VERTEXAI_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_ROOT", "K_SERVICE", "GAE_ENV", "CLOUD_RUN_JOB"),
    "KUBERNETES_SERVICE_HOST",  # whose pods may have an identity, which only the network can tell
)
_BY_NUMBER = re.compile(r"bedrock/arn:[^/]*:application-inference-profile/")
_DMI = Path("/sys/class/dmi/id")
_AWS_REGIONS = ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION")
_GOOGLE_LOCATIONS = ("VERTEXAI_LOCATION", "VERTEX_LOCATION")


def where(provider: str, model: str, given: Mapping[str, Any], lookup: Lookup) -> dict[str, str]:
    """The litellm_params that say in which region a deployment runs, as LiteLLM and the clouds' own clients settle it:
    by its own, by the environment, by a file. Empty where they leave it to the provider's, or to the model's, own."""
    if provider == "bedrock":
        if given.get("aws_region_name") or "arn:" in model:
            return {}
        region = next(filter(None, map(lookup, _AWS_REGIONS)), None) or _region_in_file(lookup)
        return {"aws_region_name": region} if region else {}
    if provider.startswith("vertex_ai"):
        said = (given.get("vertex_location"), given.get("vertex_ai_location"), *map(lookup, _GOOGLE_LOCATIONS))
        location = next((one for one in said if isinstance(one, str) and one), None)
        return {"vertex_location": location} if location else {}
    return {}


def _region_in_file(lookup: Lookup) -> str | None:
    profile = lookup("AWS_PROFILE") or "default"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_aws_files(lookup)[1].expanduser().read_text("utf-8"))
    except (OSError, ValueError, RuntimeError, configparser.Error):
        return None
    name = profile if profile == "default" else f"profile {profile}"
    return parser.get(name, "region", fallback=None) or None


def _aws_files(lookup: Lookup) -> tuple[Path, Path]:
    folder = Path(lookup("HOME") or lookup("USERPROFILE") or "", ".aws")
    return (
        Path(lookup("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials"),
        Path(lookup("AWS_CONFIG_FILE") or folder / "config"),
    )


def _aws(given: Mapping[str, Any], lookup: Lookup) -> Iterator[str]:
    """Where boto3 looks, but for the network: keys, a profile, a role, the files, and this machine's own role."""
    if not installed("boto3"):
        yield needs_package("boto3")
    said = ("aws_access_key_id", "aws_profile_name", "aws_role_name", "aws_web_identity_token", "api_key")
    kept = _aws_files(lookup)
    if any(key in given for key in said) or any(map(lookup, _AWS_VARIABLES)) or any(map(_is_file, kept)):
        return
    if (lookup("AWS_EC2_METADATA_DISABLED") or "").lower() != "true" and _may_be_at("amazon", "ec2"):
        return
    yield (
        "no AWS credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, nor AWS_PROFILE, "
        "nor AWS_BEARER_TOKEN_BEDROCK, and there is no ~/.aws/credentials"
    )


def _unrouted(given: Mapping[str, Any]) -> Iterator[str]:
    """A profile's own number tells LiteLLM neither whose model is behind it nor how to ask."""
    model = str(given.get("model"))
    if _BY_NUMBER.match(model):
        wanted = cut(f"bedrock/converse/{model.partition('/')[2]}", 200)
        yield f"an application inference profile does not say whose model it has; write {wanted}"


def _google(given: Mapping[str, Any], lookup: Lookup) -> Iterator[str]:
    """Where google-auth looks, but for the network: a file, gcloud's login, and this machine's own account."""
    if not installed("google-auth"):
        yield needs_package("google-auth")
    if any(key in given for key in _GOOGLES):
        return
    if (file := lookup("VERTEXAI_CREDENTIALS")) and not (_is_json(file) or _exists(file)):
        yield "VERTEXAI_CREDENTIALS names no file"
        return
    if file := lookup("GOOGLE_APPLICATION_CREDENTIALS"):
        if not _is_file(file):
            yield "GOOGLE_APPLICATION_CREDENTIALS names no file"
        return
    settings = lookup("CLOUDSDK_CONFIG") or (
        Path(lookup("APPDATA") or "", "gcloud")
        if sys.platform == "win32"
        else Path(lookup("HOME") or "", ".config", "gcloud")
    )
    if any(map(lookup, _GOOGLE_VARIABLES)) or _is_file(Path(settings, "application_default_credentials.json")):
        return
    if (lookup("NO_GCE_CHECK") or "").lower() != "true" and _may_be_at("google"):
        return
    yield (
        "no Google credentials: GOOGLE_APPLICATION_CREDENTIALS is not set, and nobody has run "
        "gcloud auth application-default login"
    )


def _entra(found: Access, given: Mapping[str, Any], lookup: Lookup) -> Access:
    """Azure without a key: a token as it is, or Entra ID, for which a package fetches one."""
    by_entra, by_oidc = _entra_ways(given, lookup)
    if not (by_entra or by_oidc):
        return found
    wants = [want for want in found.wants if "_KEY is not set" not in want]
    if by_entra and not installed("azure-identity"):
        wants.append(needs_package("azure-identity"))
    return Access(found.implied, False, tuple(wants))


def _entra_ways(given: Mapping[str, Any], lookup: Lookup) -> tuple[bool, bool]:
    """Whether a token is fetched with a secret or a password, and whether for another token."""

    def has(*keys: str) -> bool:
        return all(given.get(key) or lookup(f"AZURE_{key.removeprefix('azure_').upper()}") for key in keys)

    token = str(given.get("azure_ad_token") or lookup("AZURE_AD_TOKEN") or "")
    by_entra = has("client_id", "tenant_id", "client_secret") or has("client_id", "azure_username", "azure_password")
    return by_entra, token.startswith("oidc/")


def wants_token(model: str, given: Mapping[str, Any], lookup: Lookup) -> bool:
    """Whether a token of Entra ID is fetched for its calls."""
    return model.partition("/")[0] in _ON_AZURE and "api_key" not in given and any(_entra_ways(given, lookup))


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _may_be_at(*makers: str) -> bool:
    """Whether this may be a cloud's machine, which has credentials without being told. A Linux knows its maker."""
    if sys.platform != "linux":
        return True
    for name in ("sys_vendor", "product_name", "bios_version", "board_asset_tag"):
        try:
            said = (_DMI / name).read_text("utf-8", errors="replace").lower()
        except OSError:
            continue
        if any(maker in said for maker in makers):
            return True
    return False


# -- logins by hand ----------------------------------------------------------------------------------------------------


def _github_copilot(lookup: Lookup) -> tuple[str, ...]:
    folder = _token_folder(lookup, "GITHUB_COPILOT_TOKEN_DIR", "github_copilot")
    token = _read(folder / (lookup("GITHUB_COPILOT_ACCESS_TOKEN_FILE") or "access-token"))
    key = _json(folder / (lookup("GITHUB_COPILOT_API_KEY_FILE") or "api-key.json"))
    expires = key.get("expires_at")
    if token or (isinstance(expires, int | float) and expires > time.time()):
        return ()
    return (_log_in("GitHub Copilot", "github_copilot"),)


def _chatgpt(lookup: Lookup) -> tuple[str, ...]:
    folder = _token_folder(lookup, "CHATGPT_TOKEN_DIR", "chatgpt")
    login = _json(folder / (lookup("CHATGPT_AUTH_FILE") or "auth.json"))
    return () if login.get("refresh_token") or login.get("access_token") else (_log_in("ChatGPT", "chatgpt"),)


_LOGINS: Mapping[str, Callable[[Lookup], tuple[str, ...]]] = {"github_copilot": _github_copilot, "chatgpt": _chatgpt}


def wants_login(model: str) -> bool:
    """Whether its provider is reached with a login that a person has made."""
    return model.partition("/")[0] in _LOGINS


def _log_in(whom: str, provider: str) -> str:
    module = f"litellm.llms.{provider}.authenticator"
    return (
        f'not logged in to {whom}: run python -c "from {module} import Authenticator; '
        'Authenticator().get_access_token()", then start again'
    )


def _token_folder(lookup: Lookup, variable: str, usual: str) -> Path:
    return Path(lookup(variable) or Path(lookup("HOME") or lookup("USERPROFILE") or "", ".config", "litellm", usual))


def _read(file: Path) -> str:
    try:
        return file.expanduser().read_text("utf-8", errors="replace").strip()
    except (OSError, ValueError, RuntimeError):
        return ""


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_read(file))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

"""Credentials that LiteLLM and the clouds' own clients find by themselves: in files, in roles, by a login.

What is looked at is what those clients look at, except for the network. Where only the network could tell, as on a
cloud's own machine, the credentials are taken to be there, and the first call says more.
"""

from __future__ import annotations

import configparser
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from konstruct_mcp.config.packages import installed, needs_package
from konstruct_mcp.core.text import cut

Lookup = Callable[[str], str | None]  # the value of an environment variable, None for one that is not set

ON_AWS = ("bedrock", "sagemaker", "sagemaker_chat", "sagemaker_nova")
ON_AZURE = ("azure", "azure_text", "azure_ai")
GOOGLE_CREDENTIALS = ("vertex_credentials", "vertex_ai_credentials")
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


def region_params(provider: str, model: str, given: Mapping[str, Any], lookup: Lookup) -> dict[str, str]:
    """The litellm_params that say in which region a deployment runs, which decides its prices.

    As for LiteLLM and the clouds' own clients, that is said by the deployment, else the environment, else a file. Empty
    where none of them says it.
    """
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


def missing_on_aws(given: Mapping[str, Any], lookup: Lookup) -> Iterator[str]:
    """A line for each thing that boto3 lacks: the package, or credentials. It takes keys, a profile, a role, its files,
    or this machine's own role."""
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


def without_route(given: Mapping[str, Any]) -> Iterator[str]:
    """A line for an inference profile that is named by its number alone: that does not tell LiteLLM whose model is
    behind it, nor how to ask it."""
    model = str(given.get("model"))
    if _BY_NUMBER.match(model):
        wanted = cut(f"bedrock/converse/{model.partition('/')[2]}", 200)
        yield f"an application inference profile does not say whose model it has; write {wanted}"


def missing_on_google(given: Mapping[str, Any], lookup: Lookup) -> Iterator[str]:
    """A line for each thing that google-auth lacks: the package, or credentials. It takes a file, gcloud's login, or
    this machine's own account."""
    if not installed("google-auth"):
        yield needs_package("google-auth")
    if any(key in given for key in GOOGLE_CREDENTIALS):
        return
    if (file := lookup("VERTEXAI_CREDENTIALS")) and not (is_json(file) or exists(file)):
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


def entra_ways(given: Mapping[str, Any], lookup: Lookup) -> tuple[bool, bool]:
    """Whether Entra ID gives a token for a secret or a password, and whether it gives one for an OIDC token."""

    def has(*keys: str) -> bool:
        return all(given.get(key) or lookup(f"AZURE_{key.removeprefix('azure_').upper()}") for key in keys)

    token = str(given.get("azure_ad_token") or lookup("AZURE_AD_TOKEN") or "")
    by_entra = has("client_id", "tenant_id", "client_secret") or has("client_id", "azure_username", "azure_password")
    return by_entra, token.startswith("oidc/")


def wants_token(model: str, given: Mapping[str, Any], lookup: Lookup) -> bool:
    """Whether the calls of a deployment need a token that is fetched from Entra ID."""
    return model.partition("/")[0] in ON_AZURE and "api_key" not in given and any(entra_ways(given, lookup))


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _may_be_at(*makers: str) -> bool:
    """Whether this may be a machine of a cloud, which has credentials of its own. Linux knows the maker of its machine;
    elsewhere the answer is yes."""
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


# -- logins that a person makes ----------------------------------------------------------------------------------------


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


LOGINS: Mapping[str, Callable[[Lookup], tuple[str, ...]]] = {"github_copilot": _github_copilot, "chatgpt": _chatgpt}


def wants_login(model: str) -> bool:
    """Whether the provider of a model, `provider/model`, is reached with a login that a person makes in a browser."""
    return model.partition("/")[0] in LOGINS


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

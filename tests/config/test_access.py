"""Which deployments can be asked: the key, the package, the address or the login that LiteLLM would want."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from support.default_groups import HELLO, entry, opened, reaching, write
from support.providers import Provider, Text

from konstruct_mcp import CompletionError, Konstruct
from konstruct_mcp.config.provider_needs import variables

pytestmark = pytest.mark.many_cases

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / ".ci" / "access_data.py"
SHIPPED = json.loads((REPOSITORY / "konstruct_mcp" / "config" / "access.json").read_text("utf-8"))
HOUSE = "https://house.example/v1"
OWN_SERVER = "a server of your own that speaks OpenAI's format is openai/model, with an api_base"


def state(folder: Path, params: Mapping[str, Any], environ: Mapping[str, str] = {}) -> str | None:
    """Why a deployment cannot be asked, None where it is ready. The user has the folder for a home."""
    path = write(folder, {"model_list": [entry("a", params)]})
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    return Konstruct.from_config(path, environ={**home, **environ}).groups()[0].deployments[0].reason


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("cerebras/llama3.1-8b", "CEREBRAS_API_KEY"),
        ("perplexity/sonar", "PERPLEXITYAI_API_KEY"),
        ("nvidia_nim/meta/llama3-70b-instruct", "NVIDIA_NIM_API_KEY"),
        ("github/gpt-4o", "GITHUB_API_KEY"),
        ("zai/glm-4.6", "ZAI_API_KEY"),
        ("moonshot/kimi-k2", "MOONSHOT_API_KEY"),
        ("sambanova/Meta-Llama-3.1-8B-Instruct", "SAMBANOVA_API_KEY"),
        ("deepinfra/meta-llama/Meta-Llama-3-8B-Instruct", "DEEPINFRA_API_KEY"),
        ("dashscope/qwen-plus", "DASHSCOPE_API_KEY"),
        ("fireworks_ai/llama-v3p1-8b", "FIREWORKS_AI_API_KEY"),
        ("huggingface/together/deepseek-ai/DeepSeek-R1", "HUGGINGFACE_API_KEY"),
        ("replicate/meta/llama-3", "REPLICATE_API_KEY"),
        ("groq/llama-3.1-8b-instant", "GROQ_API_KEY"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY"),
        ("scaleway/qwen3", "SCW_SECRET_KEY"),
        ("command-r", "COHERE_API_KEY"),  # a model that LiteLLM knows the provider of
        ("jamba-large-1.7", "AI21_API_KEY"),
    ],
)
def test_a_key_that_is_missing_is_named_by_the_variable_that_litellm_reads(
    tmp_path: Path, model: str, variable: str
) -> None:
    assert state(tmp_path, {"model": model}) == f"{variable} is not set"
    assert state(tmp_path, {"model": model}, {variable: "sk-1"}) is None
    assert state(tmp_path, {"model": model, "api_key": "sk-1"}) is None
    assert state(tmp_path, {"model": model, "api_key": "os.environ/MINE"}) == "MINE is not set"


@pytest.mark.parametrize(
    ("params", "environ", "reason"),
    [
        # Each of several will do.
        ({"model": "gemini/x"}, {"GOOGLE_API_KEY": "g"}, None),
        ({"model": "perplexity/x"}, {"PERPLEXITY_API_KEY": "p"}, None),
        ({"model": "huggingface/together/o/m"}, {"HF_TOKEN": "h"}, None),
        ({"model": "anthropic/x"}, {"ANTHROPIC_AUTH_TOKEN": "t"}, None),
        # Each of several is needed.
        ({"model": "azure/x"}, {}, "AZURE_API_BASE is not set; AZURE_API_KEY is not set"),
        ({"model": "azure/x"}, {"AZURE_API_KEY": "k"}, "AZURE_API_BASE is not set"),
        ({"model": "azure/x"}, {"AZURE_API_BASE": "https://h.openai.azure.com"}, "AZURE_API_KEY is not set"),
        ({"model": "azure/x"}, {"AZURE_API_BASE": "https://h.openai.azure.com", "AZURE_API_KEY": "k"}, None),
        ({"model": "azure/x", "api_base": "https://h.openai.azure.com"}, {}, "AZURE_API_KEY is not set"),
        ({"model": "azure/x", "api_base": "https://h.openai.azure.com", "azure_ad_token": "t"}, {}, None),
        ({"model": "azure/responses/x", "api_base": "https://h.openai.azure.com", "api_key": "k"}, {}, None),
        ({"model": "azure/x", "api_base": "http://127.0.0.1:8080"}, {}, None),
        ({"model": "databricks/x", "api_key": "k"}, {}, "DATABRICKS_API_BASE is not set"),
        ({"model": "databricks/x", "api_base": "https://a.databricks.com", "api_key": "k"}, {}, None),
        (
            {"model": "watsonx/x", "api_base": "https://us-south.ml.cloud.ibm.com"},
            {"WATSONX_API_KEY": "k"},
            "WATSONX_PROJECT_ID is not set",
        ),
        ({"model": "watsonx/x", "project_id": "p"}, {"WATSONX_APIKEY": "k", "WATSONX_URL": "https://h.ibm.com"}, None),
        ({"model": "cloudflare/x"}, {"CLOUDFLARE_API_KEY": "k"}, "CLOUDFLARE_ACCOUNT_ID is not set"),
        ({"model": "cloudflare/x"}, {"CLOUDFLARE_API_KEY": "k", "CLOUDFLARE_ACCOUNT_ID": "a"}, None),
        ({"model": "snowflake/x", "account_id": "a"}, {"SNOWFLAKE_JWT": "j"}, None),
        # Servers of one's own.
        ({"model": "hosted_vllm/x"}, {}, "HOSTED_VLLM_API_BASE is not set"),
        ({"model": "hosted_vllm/x", "api_base": HOUSE}, {}, None),
        ({"model": "hosted_vllm/x"}, {"HOSTED_VLLM_API_BASE": HOUSE}, None),
        ({"model": "lm_studio/x", "api_base": HOUSE}, {}, None),
        ({"model": "llamafile/x"}, {}, None),
        ({"model": "ollama/x"}, {}, None),
        ({"model": "openai/x", "api_base": HOUSE}, {}, None),
        ({"model": "cerebras/x", "api_base": HOUSE}, {}, None),
        ({"model": "openai/x"}, {"OPENAI_BASE_URL": HOUSE}, None),
        ({"model": "ovhcloud/x"}, {}, None),  # answers without a key too
        # What LiteLLM cannot call at all.
        ({"model": "anthropc/x"}, {}, '"anthropc" is no provider that LiteLLM knows; did you mean anthropic?'),
        ({"model": "azure_openai/x"}, {}, '"azure_openai" is no provider that LiteLLM knows; did you mean azure?'),
        ({"model": "nvidia/x"}, {}, '"nvidia" is no provider that LiteLLM knows; did you mean nvidia_nim?'),
        ({"model": "grok/x"}, {}, f'"grok" is no provider that LiteLLM knows; {OWN_SERVER}'),
        ({"model": "somebody/x"}, {}, f'"somebody" is no provider that LiteLLM knows; {OWN_SERVER}'),
        ({"model": "mine"}, {}, "LiteLLM knows no provider of such a model; write provider/model"),
        ({"model": "mine", "api_base": HOUSE}, {}, "LiteLLM knows no provider of such a model; write provider/model"),
        ({"model": "mine", "custom_llm_provider": "openai", "api_base": HOUSE}, {}, None),
        ({"model": "mine", "api_base": "https://api.groq.com/openai/v1"}, {}, "GROQ_API_KEY is not set"),
        (
            {"model": "auto_router/x"},
            {},
            "auto_router chooses among a LiteLLM proxy's own groups; name a model",
        ),
        ({"model": "elevenlabs/x"}, {}, "LiteLLM asks elevenlabs for no chat completions"),
        ({"api_key": "k"}, {}, "its litellm_params have no model"),
        ({"model": "vllm/x"}, {}, "needs vllm: uv pip install vllm, or pip install vllm"),
        ({"model": "gpt-99"}, {"OPENAI_API_KEY": "k"}, None),  # newer than LiteLLM
    ],
)
def test_what_a_deployment_needs_is_ready_or_named(
    tmp_path: Path, params: dict[str, Any], environ: dict[str, str], reason: str | None
) -> None:
    assert state(tmp_path, params, environ) == reason


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("openai/gpt-4o", "ssl_verify"),
        ("openai/gpt-4o", "ssl_certificate"),
        ("openai/gpt-4o", "client_certificate"),
        ("openai/gpt-4o", "client_cert"),
        ("ollama/x", "ssl_key"),
        ("vertex_ai/gemini-2.5-pro", "vertex_credentials"),
        ("vertex_ai/gemini-2.5-pro", "vertex_ai_credentials"),
    ],
)
def test_a_file_that_is_not_there_is_named_by_its_key_alone(tmp_path: Path, model: str, key: str) -> None:
    file = tmp_path / "file.pem"
    params = {"model": model, "api_key": "sk-1"}
    assert state(tmp_path, params | {key: str(file)}) == f"{key} names no file"
    assert state(tmp_path, params | {key: "os.environ/PLACE"}, {"PLACE": str(file)}) == f"{key} names no file"
    file.write_text("{}")
    assert state(tmp_path, params | {key: str(file)}) is None


def test_what_is_no_file_where_one_may_be_is_none(tmp_path: Path) -> None:
    for params in (
        {"model": "openai/gpt-4o", "api_key": "sk-1", "ssl_verify": "False"},
        {"model": "vertex_ai/gemini-2.5-pro", "vertex_credentials": '{"type": "service_account"}'},
    ):
        assert state(tmp_path, params) is None


def test_a_profile_by_its_number_is_asked_by_converse_alone(tmp_path: Path) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    reason = state(tmp_path, {"model": f"bedrock/{arn}", "aws_profile_name": "dev"})
    assert reason is not None
    assert reason.endswith(f"; write bedrock/converse/{arn}")
    assert state(tmp_path, {"model": f"bedrock/converse/{arn}", "aws_profile_name": "dev"}) is None


def test_no_provider_gets_another_ones_key() -> None:
    foreign = [provider for provider, names in variables().items() if "OPENAI_API_KEY" in names and len(names) > 1]
    assert foreign == []


def test_the_page_of_providers_has_the_table_of_what_is_shipped() -> None:
    page = (REPOSITORY / "docs" / "providers.md").read_text("utf-8")
    _, _, written = page.partition("| provider | needs | reads, where it is set |\n|---|---|---|\n")
    assert written == "".join(runpy.run_path(str(SCRIPT))["rows"](SHIPPED["providers"]))


def made(*providers: str) -> Any:
    ran = subprocess.run([sys.executable, SCRIPT, *providers], capture_output=True, text=True, timeout=170)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_what_is_shipped_was_made_with_the_installed_litellm() -> None:
    assert SHIPPED["litellm"] == version("litellm")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(10))
def test_what_is_shipped_is_what_the_installed_litellm_looks_for(part: int) -> None:
    some = list(SHIPPED["providers"])[part::10]
    found = made(*some)
    assert found["providers"] == {name: SHIPPED["providers"][name] for name in some}
    assert (found["endpoints"], found["models"]) == (SHIPPED["endpoints"], SHIPPED["models"])


def check(folder: Path, config: Mapping[str, Any], environ: Mapping[str, str], without: Sequence[str] = ()) -> Any:
    """`check` in a process to which some packages are not installed."""
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    arguments = ["--config", str(write(folder, config)), "check"]
    command = f"import sys; {hidden}from konstruct_mcp.cli.main import main; main({arguments!r})"
    kept = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", command], env={**kept, **environ}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.long
def test_check_calls_ready_only_what_a_call_would_ask(tmp_path: Path) -> None:
    config = {
        "model_list": [
            entry("bedrock", {"model": "bedrock/anthropic.claude-3-sonnet-20240229-v1:0"}),
            entry("vertex", {"model": "vertex_ai/gemini-2.5-flash"}),
            entry(
                "azure",
                {
                    "model": "azure/gpt-4o",
                    "api_base": "https://h.openai.azure.com",
                    "tenant_id": "t",
                    "client_id": "c",
                    "client_secret": "s",
                },
            ),
        ]
    }
    environ = {
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "s",
        "VERTEXAI_CREDENTIALS": "{}",
        "VERTEXAI_PROJECT": "p",
    }
    ran = check(tmp_path, config, environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "all 3 deployments are ready" in ran.stdout
    ran = check(tmp_path, config, environ, ("boto3", "google.auth", "azure.identity"))
    assert ran.returncode == 1
    assert [line.split(maxsplit=2)[2] for line in ran.stdout.splitlines()[1:4]] == [
        f"needs {package}: in the clone, python3 -m uv sync --inexact --extra {extra}, "
        f"or python3 -m pip install '.[{extra}]'"
        for package, extra in (("boto3", "bedrock"), ("google-auth", "vertex"), ("azure-identity", "azure"))
    ]
    config["model_list"] = [entry("a", {"model": "anthropc/x"})]
    assert check(tmp_path, config, {}).returncode == 1


NO_AWS = (
    "no AWS credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, nor AWS_PROFILE, "
    "nor AWS_BEARER_TOKEN_BEDROCK, and there is no ~/.aws/credentials"
)
NO_GOOGLE = (
    "no Google credentials: GOOGLE_APPLICATION_CREDENTIALS is not set, and nobody has run "
    "gcloud auth application-default login"
)


@pytest.mark.parametrize(
    ("params", "environ", "file", "reason"),
    [
        ({"model": "bedrock/x"}, {}, None, NO_AWS),
        ({"model": "bedrock/x"}, {"AWS_PROFILE": "work"}, None, None),
        ({"model": "bedrock/x"}, {"AWS_BEARER_TOKEN_BEDROCK": "t"}, None, None),
        ({"model": "bedrock/x"}, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/f", "AWS_ROLE_ARN": "a"}, None, None),
        ({"model": "bedrock/x", "aws_profile_name": "work"}, {}, None, None),
        ({"model": "bedrock/x", "aws_role_name": "arn:aws:iam::1:role/r"}, {}, None, None),
        ({"model": "bedrock/x"}, {}, ".aws/credentials", None),
        ({"model": "bedrock/x"}, {}, ".aws/config", None),
        ({"model": "sagemaker_chat/x"}, {}, None, NO_AWS),
        ({"model": "vertex_ai/gemini-2.5-flash"}, {"NO_GCE_CHECK": "true"}, None, NO_GOOGLE),
        ({"model": "vertex_ai/gemini-2.5-flash", "vertex_credentials": "{}"}, {}, None, None),
        ({"model": "vertex_ai/gemini-2.5-flash"}, {"K_SERVICE": "mine"}, None, None),
        (
            {"model": "vertex_ai/gemini-2.5-flash"},
            {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"},
            None,
            "GOOGLE_APPLICATION_CREDENTIALS names no file",
        ),
        ({"model": "vertex_ai/gemini-2.5-flash"}, {}, ".config/gcloud/application_default_credentials.json", None),
    ],
)
def test_a_clouds_credentials_are_looked_for_where_its_package_does(
    tmp_path: Path, params: dict[str, Any], environ: dict[str, str], file: str | None, reason: str | None
) -> None:
    if file is not None:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("[default]\n")
    assert state(tmp_path, params, environ) == reason


@pytest.mark.parametrize(
    ("wire", "model", "path"),
    [
        (
            "bedrock",
            "bedrock/anthropic.claude-3-sonnet-20240229-v1:0",
            "/model/anthropic.claude-3-sonnet-20240229-v1%3A0/converse",
        ),
        ("vertex", "vertex_ai/gemini-2.5-flash", None),
        ("azure", "azure/gpt-4o", None),
    ],
)
async def test_a_cloud_is_asked_with_its_own_credentials(
    tmp_path: Path, wire: Any, model: str, path: str | None
) -> None:
    with Provider(wire) as provider:
        params = reaching(provider, model)
        if wire == "azure":
            del params["api_key"]
            params["azure_ad_token"] = "entra-test-7f3a9c"
        provider.script(Text("from a cloud"))
        async with opened(tmp_path, {"model_list": [entry("a", params)]}, {}) as konstruct:
            completion = await konstruct.complete(HELLO)
        assert completion.content == "from a cloud"
        request = next(received for received in provider.requests if received.completes)
        authorization = request.headers["authorization"]
        match wire:
            case "bedrock":
                assert request.path == path
                assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIATEST7F3A9C/")
            case "vertex":
                assert authorization.startswith("Bearer ")
                assert [one.path for one in provider.requests if not one.completes] == ["/token"]
            case _:
                assert authorization == "Bearer entra-test-7f3a9c"
                assert "api-key" not in request.headers


COPILOT = {"model": "github_copilot/gpt-4o"}


def logged_in(folder: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider, expires_in_s: float) -> None:
    """A login as LiteLLM keeps it, where it looks; in the process's environment, which is all that it reads."""
    monkeypatch.setenv("GITHUB_COPILOT_TOKEN_DIR", str(folder))
    key = {"token": "copilot-test-7f3a9c", "expires_at": time.time() + expires_in_s, "endpoints": {"api": provider.url}}
    (folder / "api-key.json").write_text(json.dumps(key))
    (folder / "access-token").write_text("gho-test-7f3a9c")


def test_who_has_not_logged_in_is_told_how(tmp_path: Path) -> None:
    reason = state(tmp_path, COPILOT) or ""
    assert reason.startswith('not logged in to GitHub Copilot: run python -c "from litellm.llms.github_copilot.auth')
    assert (state(tmp_path, {"model": "chatgpt/gpt-5"}) or "").startswith("not logged in to ChatGPT: run python -c ")
    folder = tmp_path / ".config" / "litellm" / "github_copilot"
    folder.mkdir(parents=True)
    (folder / "access-token").write_text("gho-test\n")
    assert state(tmp_path, COPILOT) is None


async def test_nobody_is_asked_to_log_in_and_the_next_answers(
    tmp_path: Path, openai: Provider, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing is there
    gpt = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k"}
    config = {"model_list": [entry("a", COPILOT, order=1), entry("a", gpt, order=2)]}
    async with opened(tmp_path, config, {"HOME": str(tmp_path)}) as konstruct:
        completion = await konstruct.complete(HELLO)
    assert (completion.model, completion.attempts) == ("openai/gpt-4o", ())
    assert "device" not in "".join(capfd.readouterr())
    # One that was a login once, and is none now: what it takes to renew it keeps nobody waiting.
    logged_in(tmp_path, monkeypatch, openai, -60)
    async with opened(tmp_path, config, {"GITHUB_COPILOT_TOKEN_DIR": str(tmp_path)}) as konstruct:
        completion = await konstruct.complete(HELLO)
    assert completion.model == "openai/gpt-4o"
    assert "its login is no longer good" in completion.attempts[0].error
    assert "device" not in "".join(capfd.readouterr())


async def test_a_login_that_somebody_has_made_is_used(
    tmp_path: Path, openai: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(tmp_path, monkeypatch, openai, 3600)
    environ = {"GITHUB_COPILOT_TOKEN_DIR": str(tmp_path)}
    async with opened(tmp_path, {"model_list": [entry("a", COPILOT)]}, environ) as konstruct:
        try:
            completion = await konstruct.complete(HELLO)
        except CompletionError as error:
            pytest.fail(str(error))
    assert completion.model == "github_copilot/gpt-4o"
    assert openai.requests[-1].headers["authorization"] == "Bearer copilot-test-7f3a9c"


async def test_entra_gives_a_token_for_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider("azure") as provider:
        provider.also["/tenant-1/oauth2/v2.0/token"] = {"access_token": "entra-test-5b2e8d", "expires_in": 3600}
        # LiteLLM reads these itself.
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", provider.root)
        monkeypatch.setenv("AZURE_TENANT_ID", "tenant-1")
        monkeypatch.setenv("AZURE_CLIENT_ID", "client-1")
        monkeypatch.setenv("FEDERATED", "federated-1")
        params = {"model": "azure/gpt-4o", "api_base": provider.url, "azure_ad_token": "oidc/env/FEDERATED"}
        async with opened(tmp_path, {"model_list": [entry("a", params)]}, {}) as konstruct:
            completion = await konstruct.complete(HELLO)
        assert completion.model == "azure/gpt-4o"
        token, request = provider.requests
        assert b"client_assertion=federated-1" in token.body
        assert request.headers["authorization"] == "Bearer entra-test-5b2e8d"
        assert not {"azure_ad_token", "tenant_id", "client_id"} & request.body.keys()


class _Entra:
    """Stands in for azure-identity's credential, whose own goes over the network. It gives a token once the event loop
    has turned meanwhile, which it cannot where it is asked on it."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    asked: ClassVar[list[bool]]  # for each token, whether the loop has turned

    def __init__(self, *_: str, **__: str) -> None: ...

    def get_token_info(self, *_: str, **__: object) -> Any:
        turned = threading.Event()
        self.loop.call_soon_threadsafe(turned.set)
        self.asked.append(turned.wait(5))
        if not self.asked[-1]:
            raise TimeoutError
        return SimpleNamespace(token="entra-test-9d1c4f", expires_on=int(time.time()) + 3600, refresh_on=None)

    def get_token(self, *scopes: str, **__: object) -> Any:
        return self.get_token_info(*scopes)


@pytest.mark.parametrize("model", ["azure/gpt-4o", "azure/responses/gpt-4o"])
@pytest.mark.parametrize(
    "login", [{"client_secret": "s", "tenant_id": "t"}, {"azure_username": "u", "azure_password": "p"}], ids=str
)
async def test_a_token_of_entra_is_fetched_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, login: dict[str, str]
) -> None:
    import azure.identity

    _Entra.loop, _Entra.asked = asyncio.get_running_loop(), []
    monkeypatch.setattr(azure.identity, "ClientSecretCredential", _Entra)
    monkeypatch.setattr(azure.identity, "UsernamePasswordCredential", _Entra)
    with Provider("azure") as provider:
        # Another client for each test: what fetches a token is kept by it.
        params = {"model": model, "api_base": provider.url, "client_id": str(tmp_path), **login}
        async with opened(tmp_path, {"model_list": [entry("a", params, num_retries=0)]}, {}) as konstruct:
            for _ in range(2):
                await konstruct.complete(HELLO)
        assert _Entra.asked
        assert all(_Entra.asked)
        assert [request.headers["authorization"] for request in provider.requests] == ["Bearer entra-test-9d1c4f"] * 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ClientAuthenticationError", "key refused (Entra ID gives no token for these credentials)"),
        ("ServiceRequestError", "connection failed (no token of Entra ID, which cannot be reached)"),
    ],
)
async def test_without_a_token_of_entra_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    import azure.core.exceptions
    import azure.identity

    def get_token(*_: str, **__: object) -> Any:
        raise getattr(azure.core.exceptions, error)("AADSTS7000215: Invalid client secret sk-entra-7f3a9c")

    credential = SimpleNamespace(get_token=get_token, get_token_info=get_token)
    monkeypatch.setattr(azure.identity, "ClientSecretCredential", lambda *_, **__: credential)
    with Provider("azure") as provider:
        params = {"model": "azure/gpt-4o", "api_base": provider.url, "tenant_id": "t", "client_id": str(tmp_path)}
        config = {"model_list": [entry("a", params, client_secret="sk-entra-7f3a9c", num_retries=0)]}
        async with opened(tmp_path, config, {}) as konstruct:
            with pytest.raises(CompletionError) as caught:
                await konstruct.complete(HELLO)
        assert said in caught.value.message
        assert "sk-entra" not in caught.value.message
        assert provider.requests == []


async def test_claude_on_vertex_needs_no_sdk_of_googles_and_leaves_none_behind(tmp_path: Path) -> None:
    model = "vertex_ai/claude-sonnet-4-6"
    before = importlib.util.find_spec("vertexai")
    with Provider("vertex") as provider:
        async with opened(tmp_path, {"model_list": [entry("a", reaching(provider, model))]}, {}) as konstruct:
            calls = await asyncio.gather(*(konstruct.complete(HELLO) for _ in range(3)))
        assert [call.model for call in calls] == [model] * 3
    assert importlib.util.find_spec("vertexai") == before
    assert before is not None or "vertexai" not in sys.modules


async def test_a_profile_signs_for_bedrock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = profile-test-7f3a9c\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    model = "bedrock/anthropic.claude-3-sonnet-20240229-v1:0"
    with Provider("bedrock") as provider:
        params = reaching(provider, model)
        del params["aws_access_key_id"], params["aws_secret_access_key"]
        config = {"model_list": [entry("a", params, aws_profile_name="work")]}
        async with opened(tmp_path, config, {"HOME": str(tmp_path)}) as konstruct:
            await konstruct.complete(HELLO)
        assert "Credential=AKIAPROFILE/" in provider.requests[-1].headers["authorization"]

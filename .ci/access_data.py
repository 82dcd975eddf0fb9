"""Ask the installed LiteLLM what each of its providers needs before it can be called.

    python .ci/access_data.py [PROVIDER ...]    # prints it
    python .ci/access_data.py --write           # into access.json of konstruct_mcp/config, and docs/providers.md

Which environment variables a provider's path reads stands in no table of LiteLLM, so it is watched at work: one call
after another, in a process without an environment, without a network and without any package that LiteLLM does not
require. What is looked up gets a marked value. Where a mark shows in what would be sent says what the variable is for;
whether the call is still a good one without it says whether it is needed; and which of LiteLLM's parameters makes it
good again says what can stand in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.abc
import importlib.metadata
import io
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DATA = Path(__file__).parents[1] / "konstruct_mcp" / "config" / "access.json"
PAGE = Path(__file__).parents[1] / "docs" / "providers.md"
_BEGIN = "| provider | needs | reads, where it is set |\n|---|---|---|\n"

# Where a name says nothing of the path that is taken, or is refused.
_MODELS = {
    "azure": "gpt-4o",
    "bedrock": "anthropic.claude-3-sonnet-20240229-v1:0",
    "clarifai": "user.app.model",
    "huggingface": "together/organization/model",
    "gemini": "gemini-2.5-flash",
    "ragflow": "chat/a/m",
    "vertex_ai": "gemini-2.5-flash",
}
# Variables of the HTTP clients, of Python, and of LiteLLM's own workings: none of them says who asks, or whom.
_NOT_ACCESS = re.compile(
    r"(?i)(.*_)?proxy|ssl_.*|.*_ca_bundle|.*cache.*|litellm_(?!proxy_).*|aiohttp_.*|httpx_.*|python.*|.*_log|.*timeout.*"
    r"|.*retr(y|ies).*|.*_limit.*|.*(en|dis)able.*|experimental_.*|.*webhook.*|request_method|.*custom_headers|home|path|user|tz"
)
_ADDRESS = re.compile(r"(_BASE|_URL|_ENDPOINT|_HOST)\Z")
_AUTH = re.compile(r"(?i)auth|key|token|secret")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|JWT")
_OTHERS = ("huggingface.co",)  # asked for a chat template, before the provider is
# LiteLLM gives its OpenAI client this in every provider's name, whose key it is not.
_OPENAI = re.compile(r"OPENAI_(API_KEY|ADMIN_KEY|AD_TOKEN|ORG\w*|PROJECT_ID|BASE_URL|API_BASE)\Z")
# Providers that answer somebody without a key, more slowly; nothing of a request shows that.
_OPEN = ("ovhcloud",)
_QUESTION = "question-7f3a9c"  # what a provider is asked; other requests on the way there are for tokens and the like
# To who asks for a token, or which provider of Hugging Face's has a model.
_ANSWER = {
    "inferenceProviderMapping": {"together": {"status": "live", "providerId": "m", "task": "conversational"}},
    "access_token": "t",
    "token": "t",
    "expires_in": 10**9,
    "expires_at": 10**11,
    "expiration": 10**11,
}


def main() -> None:
    if "--probe" in sys.argv:  # the process without an environment
        warnings.simplefilter("ignore")
        print(json.dumps(_Probe().data(sys.argv[2:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", __file__, "--probe", *(name for name in sys.argv[1:] if name != "--write")],
            env={"HOME": folder, "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")},
            cwd=folder,
            stdout=subprocess.PIPE,
            check=True,
            timeout=3600,
        )
    text = _text(json.loads(done.stdout))
    if "--write" in sys.argv:
        DATA.write_text(text, "utf-8")
        head = PAGE.read_text("utf-8").partition(_BEGIN)[0]
        PAGE.write_text(head + _BEGIN + "".join(rows(json.loads(text)["providers"])), "utf-8")
    else:
        print(text, end="")


def _text(data: Mapping[str, Any]) -> str:
    """With a line for each provider, so that a change of one shows as that."""
    parts = []
    for name, part in data.items():
        if isinstance(part, dict):
            lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items())
            parts.append(f"{json.dumps(name)}: {{\n{lines}\n}}")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(part)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def rows(providers: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table in docs/providers.md, but for those with a way of their own."""
    for name, rule in providers.items():
        needs = [" or ".join(f"`{each}`" for each in need["names"]) or "`api_base`" for need in rule.get("needs", ())]
        optional = [f"`{each}`" for key in ("api_key", "api_base") for each in rule.get(key, ())]
        if (needs or optional) and not name.startswith(("ollama", "sagemaker")):
            yield f"| `{name}` | {'; '.join(needs)} | {', '.join(optional)} |\n"


class _Environment(dict[str, str]):
    """One that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, None] = {}

    def _note(self, name: object) -> None:
        if isinstance(name, str) and not _NOT_ACCESS.fullmatch(name):
            self.asked[name] = None

    def __getitem__(self, name: str) -> str:
        self._note(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._note(name)
        return super().__contains__(name)

    def copy(self) -> dict[str, str]:
        return dict(self)


class _OnlyRequired(importlib.abc.MetaPathFinder):
    """Of what is installed, only LiteLLM and what it requires can be imported."""

    def __init__(self) -> None:
        required: set[str] = set()
        ahead = ["litellm"]
        while ahead:
            name = ahead.pop()
            if name not in required:
                required.add(name)
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    for line in importlib.metadata.requires(name) or ():
                        if "extra ==" not in line and (found := re.match(r"[\w.-]+", line)):
                            ahead.append(_normal(found[0]))
        self._hidden = {
            package
            for package, names in importlib.metadata.packages_distributions().items()
            if not required.intersection(map(_normal, names))
        }

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self._hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(slots=True)
class _Outcome:
    """What would have been sent, and why nothing was."""

    sent: list[Any] = field(default_factory=list)
    asked: tuple[str, ...] = ()
    error: BaseException | None = None

    @property
    def package(self) -> str | None:
        """The one whose want has ended it."""
        error = self.error
        while error is not None:
            if isinstance(error, ImportError) and error.name:
                return error.name.partition(".")[0]
            error = error.__cause__ or error.__context__
        said = re.search(r"(?i)missing (boto3)|(vertexai) import failed|(databricks)-sdk", str(self.error or ""))
        return next(filter(None, said.groups())) if said else None

    @property
    def asks(self) -> Any:
        """The request that has the question in it; None where nothing got as far as that."""
        return next((request for request in self.sent if _QUESTION.encode() in request.content), None)

    @property
    def host(self) -> str:
        return urlsplit(str(self.asks.url)).hostname or "" if self.asks else ""

    @property
    def credentials(self) -> set[str]:
        """The texts in places where a provider looks for a key."""
        found = set()
        for request in self.sent:
            found |= {value for name, value in request.headers.items() if _AUTH.search(name)}
            found |= {value for name, value in request.url.params.items() if _AUTH.search(name)}
            found.add(request.content.decode(errors="replace")) if b"apikey" in request.content else None
        return found

    @property
    def text(self) -> str:
        return "\n".join(
            f"{request.url} {dict(request.headers)} {request.content.decode(errors='replace')}" for request in self.sent
        )


class _Probe:
    """LiteLLM, with nothing around it."""

    def __init__(self) -> None:
        self._base = {
            "HOME": os.environ["HOME"],
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
            "LITELLM_MODE": "PRODUCTION",
            "DISABLE_AIOHTTP_TRANSPORT": "True",
        }
        self._environ = _Environment()
        self._environ.update(self._base)
        os.environ = self._environ  # type: ignore[assignment]
        sys.meta_path.insert(0, _OnlyRequired())
        import httpx
        import litellm

        self._litellm: Any = litellm
        litellm.suppress_debug_info = True
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._outcome = _Outcome()

        def answered(request: httpx.Request) -> httpx.Response:
            if request.url.host in _OTHERS:
                if not request.url.path.startswith("/api/"):
                    return httpx.Response(404, request=request)
            else:
                self._outcome.sent.append(request)
            return httpx.Response(200, json=_ANSWER, request=request)

        async def asynchronously(_: Any, request: httpx.Request) -> httpx.Response:
            await request.aread()
            return answered(request)

        def synchronously(_: Any, request: httpx.Request) -> httpx.Response:
            request.read()
            return answered(request)

        def nowhere(*_: Any, **__: Any) -> Any:
            raise OSError("no network")

        httpx.AsyncHTTPTransport.handle_async_request = asynchronously  # type: ignore[method-assign]
        httpx.HTTPTransport.handle_request = synchronously  # type: ignore[method-assign]
        # No client and no token of an earlier call.
        litellm.caching.caching.InMemoryCache.get_cache = lambda *_, **__: None
        socket.socket.connect = nowhere  # type: ignore[method-assign]
        socket.getaddrinfo = nowhere
        context = ssl.create_default_context()  # takes longer than all the rest of a call
        ssl.create_default_context = lambda *_, **__: context
        time.sleep = lambda _: None

    def data(self, only: list[str]) -> dict[str, Any]:
        from litellm.llms.openai_like.json_loader import JSONProviderRegistry

        named = {str(getattr(name, "value", name)) for name in self._litellm.provider_list}
        providers = sorted({*named, *JSONProviderRegistry.list_providers()})
        return {
            "litellm": importlib.metadata.version("litellm"),
            "providers": {name: self._provider(name) for name in only or providers},
            "endpoints": self._endpoints(),
            "models": self._models(providers),
        }

    def _endpoints(self) -> dict[str, str]:
        """Addresses by which LiteLLM knows a provider that a model's name does not name."""
        found = {}
        for address in self._litellm.openai_compatible_endpoints:
            with contextlib.suppress(Exception):
                base = address if address.startswith("http") else f"https://{address}"
                found[address] = self._litellm.get_llm_provider("unheard-of", api_base=base)[1]
        return {address: provider for address, provider in found.items() if provider}

    def _models(self, providers: list[str]) -> dict[str, str]:
        """Models whose provider LiteLLM knows without being told, by provider."""
        found: dict[str, list[str]] = {}
        for name, entry in self._litellm.model_cost.items():
            if name.partition("/")[0] not in providers and entry.get("mode") in ("chat", "completion", "responses"):
                with contextlib.suppress(Exception):
                    found.setdefault(self._litellm.get_llm_provider(name)[1], []).append(name)
        return {provider: " ".join(sorted(names)) for provider, names in sorted(found.items())}

    # -- one provider

    def _provider(self, name: str) -> dict[str, Any]:
        model = f"{name}/{_MODELS.get(name, 'm')}"
        marked = self._marked(model)
        given = {"api_key": "mark-api-key", "api_base": "https://api-base.invalid/v9"}
        seed = next((some for some in self._some(marked) if self._ask(model, some).asks), None)
        if seed is not None:
            return self._rule(name, model, marked, seed)
        outcome = self._ask(model, {}, **given)
        if not outcome.asks:
            if "Unmapped LLM provider" in str(outcome.error):
                return {"chat": False}
            packages = (self._ask(model, environ, **given).package for environ in ({}, marked))
            package = next(filter(None, packages), None)
            return {"package": package} if package else {}
        needs = []
        for parameter in given:
            rest = {key: value for key, value in given.items() if key != parameter}
            if not self._ask(model, {}, **rest).asks:
                needs.append({"names": [], "parameters": [parameter]})
        return {"needs": needs} if needs else {}

    def _some(self, marked: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """All variables, and if that is too much for it, one credential at a time: some ways in want a package."""
        yield dict(marked)
        for credential in marked:
            if _AUTH.search(credential):
                yield {name: mark for name, mark in marked.items() if name == credential or _ADDRESS.search(name)}

    def _rule(self, name: str, model: str, marked: dict[str, str], seed: dict[str, str]) -> dict[str, Any]:
        def is_in(outcome: _Outcome, mark: str) -> bool:
            return any(mark in text for text in outcome.credentials)

        def without(environ: Mapping[str, str], *names: str) -> dict[str, str]:
            return {name: mark for name, mark in environ.items() if name not in names}

        addresses = [variable for variable in marked if _ADDRESS.search(variable)]
        keys = [
            variable
            for variable in marked
            if variable not in addresses
            and _SECRET.search(variable)
            and is_in(self._ask(model, {other: marked[other] for other in (*addresses, variable)}), marked[variable])
        ]
        keys += [
            variable for variable in seed if variable not in keys and is_in(self._ask(model, seed), seed[variable])
        ]
        if own := [variable for variable in keys if not _OPENAI.match(variable)]:
            keys = own
            addresses = [variable for variable in addresses if not _OPENAI.match(variable)]
            marked = {name: mark for name, mark in marked.items() if not _OPENAI.match(name)}
            seed = {name: mark for name, mark in seed.items() if name in marked}

        def is_good(environ: Mapping[str, str], **parameters: str) -> bool:
            outcome = self._ask(model, environ, **parameters)
            if not outcome.asks or re.search(r"(?i)\bnone\b", str(outcome.asks.url)):
                return False
            if own and outcome.host == "api.openai.com":  # where an OpenAI client goes that has been told nothing
                return False
            if not keys or name in _OPEN or any("mark-" in text for text in outcome.credentials):
                return True
            placeholder = any(text for text in outcome.credentials if "None" not in text)
            return outcome.host in ("localhost", "127.0.0.1") or (placeholder and outcome.host.endswith(".invalid"))

        if not is_good(seed):
            return {}
        if is_good(without(seed, *addresses)):
            seed = without(seed, *addresses)
        needed = dict(seed)
        for variable in reversed(seed):
            if is_good(without(needed, variable)):
                del needed[variable]
        needs, used = [], set()
        for variable in needed:
            rest = without(needed, variable)
            others = [
                other
                for other in marked
                if other not in needed
                and not (variable in keys and other in addresses)
                and is_good(rest | {other: marked[other]})
            ]
            used.update((variable, *others))
            parameters = [
                parameter
                for parameter in self._parameters(variable)
                if parameter != ("api_base" if variable in keys else "api_key")
                and is_good(rest, **{parameter: marked[variable]})
            ]
            names = {}
            for alternative in self._in_order(model, [variable, *others], is_key=variable in keys):
                mark = marked[alternative]
                asked = self._ask(model, rest | {alternative: mark}).text
                same = (p for p in parameters if self._ask(model, rest, **{p: mark}).text == asked)
                names[alternative] = next(same, None)
            needs.append({"names": names, "parameters": parameters})
        rule: dict[str, Any] = {"needs": needs} if needs else {}
        rest = [variable for variable in marked if variable not in used]
        for parameter, variables in (("api_key", keys), ("api_base", addresses)):
            # Not needed, and yet what a user has set there counts.
            optional = []
            for variable in rest:
                outcome = self._ask(model, needed | {variable: marked[variable]})
                place = outcome.host if parameter == "api_base" and outcome.asks else outcome.text
                if variable in variables and marked[variable].removeprefix("https://").removesuffix("/v9") in place:
                    optional.append(variable)
            if optional:
                rule[parameter] = optional
        # Parts of other ways in, of which we do not know what else they take: who has set one is not told of a want.
        if needs and (parts := [variable for variable in rest if variable not in keys and _SECRET.search(variable)]):
            rule["parts"] = parts
        # Who names this address has no server of their own.
        if (own_host := self._ask(model, needed).host) and "mark-" not in own_host:
            rule["host"] = own_host
        if package := self._ask(model, {}).package:
            rule["instead"] = package
        return rule

    def _in_order(self, model: str, names: list[str], *, is_key: bool) -> list[str]:
        """The one that LiteLLM tells people to set first, then those that it looks for first."""
        named: list[str] = []
        with contextlib.suppress(Exception):
            named = [name for name in self._litellm.validate_environment(model)["missing_keys"] if name in names]
        usual = f"{model.partition('/')[0].upper()}_API_KEY"
        first = named if len(named) == 1 else [usual] if usual in names else []
        first = first if is_key else []
        return list(dict.fromkeys([*first, names[0], *(name for name in self._asked if name in names)]))

    @staticmethod
    def _parameters(variable: str) -> list[str]:
        words = variable.lower().split("_")
        tails = ["_".join(words[start:]) for start in range(len(words))]
        return list(dict.fromkeys(["api_key", "api_base", "api_version", *tails]))

    def _marked(self, model: str) -> dict[str, str]:
        """Every variable that is looked up, with a value of its own."""
        environ: dict[str, str] = {}
        for _ in range(8):
            fresh = [name for name in self._ask(model, environ).asked if name not in environ]
            if not fresh:
                break
            for name in fresh:
                mark = f"mark-{name.lower().replace('_', '-')}"
                environ[name] = f"https://{mark}.invalid/v9" if _ADDRESS.search(name) else mark
        self._asked = list(environ)
        return environ

    def _ask(self, model: str, environ: Mapping[str, str], **parameters: Any) -> _Outcome:
        self._outcome = outcome = _Outcome()
        self._environ.clear()
        self._environ.update(self._base | dict(environ))
        self._environ.asked.clear()

        async def ask() -> None:
            messages = [{"role": "user", "content": _QUESTION}]
            async with asyncio.timeout(10):
                await self._litellm.acompletion(model=model, messages=messages, **parameters)

        silence = io.StringIO()
        try:
            with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
                asyncio.run(ask())
        except Exception as error:
            outcome.error = error
        outcome.asked = tuple(self._environ.asked)
        return outcome


if __name__ == "__main__":
    main()

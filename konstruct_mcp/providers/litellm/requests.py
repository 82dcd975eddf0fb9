"""What a request becomes for one deployment: the arguments of LiteLLM's call, what is put into the provider's body
beside them, and nothing that the caller did not ask for."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.core.types import Message, NamedTool, Request, Tool
from konstruct_mcp.providers.litellm import ollama
from konstruct_mcp.providers.litellm.forms import (
    LEAST_BUDGET,
    SAMPLING,
    SHAPED,
    Form,
    became,
    budget_of,
    closed_schema,
    gemini_thinking,
    has_refs,
    is_converse,
    limit,
    nearest,
    not_taken,
    of_an_object,
    property_names,
    untitled,
    without_limits,
)
from konstruct_mcp.providers.litellm.reasoning import Recalled, give_back
from konstruct_mcp.providers.litellm.transport import TRANSPORT

# LiteLLM's last resort against a stuck socket. Ours ends the try first, at the deployment's own time-out: LiteLLM
# counts per read, so an answer that dribbles would outlive it.
_BACKSTOP_S = 5.0
OLLAMA = "konstruct_ollama"  # what `router` has LiteLLM call the provider that speaks Ollama's own format
# Of such a deployment's settings, what LiteLLM is told; the others are Ollama's, and in the body of each request.
_OLLAMA = ("api_base", "api_key", "extra_headers")
# What LiteLLM calls a `project` of these; any other's is a header, or nothing.
_PROJECTS = {
    "vertex_ai": "vertex_project",
    "vertex_ai_beta": "vertex_project",
    "watsonx": "project_id",
    "watsonx_text": "project_id",
}
JSON_TOOL = "json_tool_call"  # the name by which LiteLLM knows its answer for a text
_SPEAKER = re.compile(r"[A-Za-z0-9_-]{1,64}")  # a name that OpenAI takes
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_FENCE = "```"


class UnsupportedError(Exception):
    """A deployment cannot do what the request means; the text ends the sentence that its name begins."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as one deployment is to be asked.

    Attributes:
        messages: in OpenAI's format.
        options: LiteLLM's arguments.
        body: what is laid over the body that LiteLLM makes, object by object; for Ollama all of it.
        places: where in `body` the parameters stand that could be left out, where it is not LiteLLM that puts them
            there.
        schemas: those of tools that LiteLLM would cut, by the tool's name.
        notes: what was left out or is done in another way, one line each.
        in_words: whether JSON is asked for in words, so that it may come in a code fence.
        outputs: what the model is to see again of its own output as it was, by the id of the first call in it.
        names: of the tools, in their order, where LiteLLM would write them in another way, as Bedrock's with a hyphen.
    """

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    body: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_words: bool = False
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    names: Sequence[str] = ()

    @property
    def is_shaped(self) -> bool:
        """Whether `shape` does anything."""
        return bool(self.body or self.schemas or self.outputs or self.names)

    def shape(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body as it is to be sent, of the one that LiteLLM has made."""
        for tool, name in zip(_tools_in(body), self.names, strict=False):  # points for the cache come behind
            tool["name"] = name
        if self.body:
            body = _laid_over(body, self.body)
        if self.schemas:
            for tool in _tools_in(body):
                if (schema := self.schemas.get(tool.get("name", ""))) is not None:
                    _give_schema(tool, schema)
        for message in body.get("messages", ()) if self.outputs else ():
            _put_back(message, self.outputs)
        return body

    def read(self, content: str) -> str:
        """What the answer says, without the code fence around JSON that was asked for in words."""
        text = content.strip()
        if not (self.in_words and text.startswith(_FENCE) and text.endswith(_FENCE)):
            return content
        language, ended, within = text.removeprefix(_FENCE).removesuffix(_FENCE).partition("\n")
        return within.strip() if ended and language.strip().lower() in ("", "json") else content


def _laid_over(body: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The one with the other over it; null takes out what is below."""
    laid = dict(body)
    for key, value in over.items():
        below = laid.get(key)
        if value is None:
            laid.pop(key, None)
            continue
        laid[key] = _laid_over(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return laid


def _tools_in(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tools of a body in Anthropic's, Gemini's or Bedrock's format."""
    for tool in body.get("tools") or (body.get("toolConfig") or {}).get("tools") or ():
        yield from tool.get("function_declarations") or (tool.get("toolSpec") or tool,)


def _put_back(message: dict[str, Any], outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Have a turn in Anthropic's format be as the model has put it out; its calls by the ids by which results come."""
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []
    ids = [block.get("id") for block in blocks if block.get("type") == "tool_use"]
    output = outputs.get(ids[0] or "", ()) if ids else ()
    if sum(block.get("type") == "tool_use" for block in output) == len(ids) > 0:
        own = iter(ids)
        message["content"] = [
            {**block, "id": next(own)} if block.get("type") == "tool_use" else dict(block) for block in output
        ]


def _name_of_bedrock(name: str) -> str:
    """As it is, but for what another model may have called in the history."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]


def _give_schema(tool: dict[str, Any], schema: Any) -> None:
    if "input_schema" in tool:
        tool["input_schema"] = schema
    elif "inputSchema" in tool:
        tool["inputSchema"] = {"json": schema}
    else:
        tool.pop("parameters", None)
        tool["parametersJsonSchema"] = schema


def litellm_params(deployment: Deployment, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The Router's entry: who is asked, where and as whom. What a request is made of is not in it."""
    # Prices are reckoned with here: LiteLLM notes them under the model's name, for every deployment in the process.
    params = {
        key: value
        for key, value in without_limits(deployment.params).items()
        if not (is_price(key) or key in SHAPED or key in TRANSPORT or key == "allowed_openai_params")
    }
    provider, _, name = deployment.model.partition("/")
    params = _with_headers(params, provider, is_responses=entry.get("mode") == "responses")
    if provider == "ollama":
        # In its own format, which is made for each call: LiteLLM's own two providers lose tool history or emulate
        # tools in the prompt, and report every failure as the same connection error; `/v1` ignores most settings.
        params = {key: value for key, value in params.items() if key in _OLLAMA}
        params |= {"model": f"{OLLAMA}/{name}", "api_base": ollama.address(params.get("api_base"))}
    elif provider == "embedded":
        params |= {"model": f"openai/{name}", "api_base": "http://127.0.0.1", "api_key": "set for each call"}
    elif provider == "bedrock" and is_converse(name, entry) and not name.startswith("converse"):
        params["model"] = f"bedrock/converse/{name}"  # LiteLLM knows by name which of its models take that
    elif provider == "mistral" and "seed" in params:
        params["random_seed"] = params.pop("seed")  # as it is called there, which LiteLLM loses on the way
    elif provider in ("openai", "azure") and entry.get("mode") == "responses" and not name.startswith("responses/"):
        params["model"] = f"{provider}/responses/{name}"
    return params | {"timeout": deployment.timeout_s + _BACKSTOP_S, "max_retries": 0}


def _with_headers(params: dict[str, Any], provider: str, *, is_responses: bool) -> dict[str, Any]:
    """With the settings that are headers as such: LiteLLM puts some of them into the body, or forgets them."""
    headers: dict[str, Any] = {}
    if isinstance(given := params.pop("default_headers", None), Mapping):
        headers |= given
    if (project := params.pop("project", None)) is not None:
        if provider == "openai":
            headers["OpenAI-Project"] = project
        elif provider in _PROJECTS:
            params = {_PROJECTS[provider]: project, **params}
    if is_responses and provider == "openai" and (organization := params.get("organization")) is not None:
        headers["OpenAI-Organization"] = organization
    params.pop("api_type", None)
    if not headers:
        return params
    more = params.get("extra_headers")
    return params | {"extra_headers": headers | dict(more if isinstance(more, Mapping) else {})}


def prepare(
    deployment: Deployment,
    form: Form,
    request: Request,
    recalled: Recalled,
    most: int | None = None,
    refusal: str = "",
    *,
    speaks_openais: bool = True,
) -> Prepared:
    """A request as this deployment takes it, with what is recalled of its reasoning, for an answer of at most
    `most` tokens where a budget says so. `refusal` is what it has said of its reasoning in the history, which then is
    left out. `speaks_openais`: whether its provider speaks OpenAI's format, as far as LiteLLM knows.

    Raises:
        UnsupportedError: it cannot be asked so that it means the same.
    """
    preparing = _Preparing(deployment, form, request, most, speaks_openais=speaks_openais)
    preparing.remember(recalled, refusal)
    if form.provider == "ollama":
        return preparing.for_ollama()
    return preparing.prepared()


class _Preparing:
    """One request on its way to one deployment."""

    def __init__(
        self, deployment: Deployment, form: Form, request: Request, most: int | None, *, speaks_openais: bool
    ) -> None:
        self._deployment, self._form, self._request = deployment, form, request
        # LiteLLM goes by names what a model takes, and what else is made of it.
        self._imitates_openai = speaks_openais and form.wire == "openai" and form.provider not in ("openai", "azure")
        self.messages = [plain(message, form) for message in _in_order(request.messages) if _says(message, form)]
        self._outputs: Mapping[str, Sequence[Mapping[str, Any]]] = {}
        self._options: dict[str, Any] = {}
        self._body: dict[str, Any] = {}
        self._schemas: dict[str, Any] = {}
        self._lost = tuple(_left_behind(request.messages, form))
        self._notes = [*form.thinking.notes, *self._lost]
        self._system: list[str] = []
        self._thinks = form.thinking.will
        self._claude_thinking = form.thinking.claude
        self._in_words = False
        self._limit = limit(deployment, form.entry, request.max_tokens)
        if most is not None:
            self._limit = most if self._limit is None else min(self._limit, most)

    def remember(self, recalled: Recalled, refusal: str) -> None:
        """Put what the deployment has thought before into the history. A Claude that is told to think does not take one
        in which it made calls without a thought."""
        must_think = self._claude_thinking is not None and self._claude_thinking.get("type") == "enabled"
        must_think |= bool(refusal) and self._form.is_claude and self._thinks
        given = give_back(self.messages, self._deployment, recalled, must_think=must_think, refusal=refusal)
        self._outputs = given.outputs
        if refusal and not given.is_thoughtless:
            self._notes.append(f"{self._form.name} goes on without what was thought before the last calls")
        if given.is_thoughtless:
            self._notes.append(f"thinking was left out: what {self._form.name} thought before its last calls is gone")
            self._stop_thinking()

    def prepared(self) -> Prepared:
        self._tools()
        self._format()
        self._tools_of_bedrock()
        self._thinking()
        self._sampling()
        self._limits()
        self._others()
        if self._system:
            self.messages.insert(0, {"role": "system", "content": "\n\n".join(self._system)})
        if self._imitates_openai and self._request.has_images:
            # LiteLLM leaves them out for those that it takes for blind, and has others read them out to the model.
            self._body["messages"] = copy.deepcopy(self.messages)
        body = self._body
        if body and self._form.wire in ("openai", "responses", "cohere"):
            self._options["extra_body"], body = body, {}
        return Prepared(
            self.messages,
            self._options,
            body,
            schemas=self._schemas,
            notes=tuple(self._notes),
            in_words=self._in_words,
            outputs=self._outputs,
            names=self._names_of_bedrock(),
        )

    def for_ollama(self) -> Prepared:
        """In its own format, where the whole body is ours."""
        request = self._request
        if request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool):
            raise UnsupportedError("cannot be made to call a tool")
        wanted = {"tools", "tool_choice", "response_format", "temperature"}
        in_openais = request.model_dump(include=wanted, exclude_none=True, by_alias=True)
        asked = ollama.prepare(self._deployment, self.messages, in_openais, self._limit)
        self._notes = [*self._lost, *asked.notes]  # its form of thinking is its own
        self._note_limit()
        return Prepared(self.messages, {}, asked.body, places=asked.places, notes=tuple(self._notes))

    def _left_out(self, what: str) -> None:
        self._notes.append(not_taken(what, self._form.name))

    # -- tools

    def _tools(self) -> None:
        """The tools and the choice among them: what it means is kept, or the deployment is not asked."""
        form, request, options = self._form, self._request, self._options
        choice = request.tool_choice
        called = {
            call["function"]["name"]: None for message in self.messages for call in message.get("tool_calls") or ()
        }
        if request.tools:
            options["tools"] = [self._tool(tool) for tool in request.tools]
            if choice is not None:
                options["tool_choice"] = choice.model_dump() if isinstance(choice, NamedTool) else choice
        elif called and form.wire in ("anthropic", "converse"):
            # These refuse a history with tool calls unless the request defines tools.
            parameters = {"type": "object", "properties": {}}
            options["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": parameters}} for name in called
            ]
            options["tool_choice"] = choice = "none"  # whatever it was: there is nothing to choose from
        if choice == "none" and "tools" in options and not (form.takes_choice and form.wire != "converse"):
            # Which has no such choice.
            del options["tool_choice"]
            if called:
                self._system.append("Do not call any tool in this turn; answer in words.")
            else:
                del options["tools"]
        if isinstance(choice, NamedTool) or choice == "required":
            self._force()
        if not form.takes_choice:
            options.pop("tool_choice", None)  # it chooses by itself anyhow
        if "tool_choice" in options:
            self._choice(choice)
        if self._imitates_openai and form.entry.get("supports_function_calling"):
            options["allowed_openai_params"] = ["tools", "tool_choice"]
        if form.wire == "openai" and "tools" in options and any(_is_cut(tool) for tool in request.tools or ()):
            tools = copy.deepcopy(options["tools"])  # which LiteLLM changes in place
            self._body["tools"] = [_without_strict(tool) if self._imitates_openai else tool for tool in tools]

    def _choice(self, choice: Any) -> None:
        """The choice where a provider has another form for it, which LiteLLM does not know or leaves out."""
        options, provider = self._options, self._form.provider
        named = choice.function.name if isinstance(choice, NamedTool) else None
        if named is not None and self._form.wire == "responses":
            self._body["tool_choice"] = {"type": "function", "name": named}
            del options["tool_choice"]
        elif (
            (named is not None and self._form.is_mistral_s)
            or (choice == "required" and provider == "moonshot")
            or self._form.reasons_in_openais_way
        ):
            # LiteLLM turns one round, has the user ask for a tool, and goes by names whether the others take any.
            self._body["tool_choice"] = options.pop("tool_choice")
        elif self._form.wire == "cohere" or (named is not None and provider == "lm_studio"):
            # These know words alone: of one tool the required one is that one.
            if named is not None:
                options["tools"] = [tool for tool in options["tools"] if tool["function"]["name"] == named]
                choice = "required"
            del options["tool_choice"]
            if choice != "auto":
                self._body["tool_choice"] = choice.upper() if self._form.wire == "cohere" else choice

    def _tools_of_bedrock(self) -> None:
        """LiteLLM goes by names which models of Bedrock take tools, and a choice among them."""
        options = self._options
        if self._form.wire != "converse" or "tools" not in options:
            return
        options["allowed_openai_params"] = ["tools"]
        choice = options.pop("tool_choice", None)
        if isinstance(choice, Mapping):
            self._body["toolConfig"] = {"toolChoice": {"tool": {"name": choice["function"]["name"]}}}
        elif choice is not None:
            self._body["toolConfig"] = {"toolChoice": {"any" if choice == "required" else "auto": {}}}

    def _names_of_bedrock(self) -> tuple[str, ...]:
        names = tuple(tool["function"]["name"] for tool in self._options.get("tools", ()))
        is_written_anew = not all(map(_PLAIN_NAME.fullmatch, names))
        return names if self._form.wire == "converse" and is_written_anew else ()

    def _force(self) -> None:
        """Make way for a tool that the model must call: a Claude that thinks refuses that."""
        form = self._form
        if not form.takes_choice or (form.is_claude and (not _can_be_forced(form) or form.thinks_always)):
            raise UnsupportedError("cannot be made to call a tool")
        if not form.is_claude:
            return
        if self._thinks:
            if form.thinking.claude is not None:
                self._notes.append(f"thinking was left out: {form.name} cannot think where a tool must be called")
            self._stop_thinking()

    def _stop_thinking(self) -> None:
        self._thinks = False
        self._claude_thinking = {"type": "disabled"} if self._form.entry.get("thinking_on_by_default") else None

    def _tool(self, tool: Tool) -> dict[str, Any]:
        """A tool in OpenAI's format. Where LiteLLM would cut its schema, or write out each reference in full, it gets
        a stub, and the body the schema."""
        made = tool.model_dump(exclude_none=True, by_alias=True)
        schema, wire = of_an_object(made["function"].get("parameters")), self._form.wire
        made["function"]["parameters"] = schema
        if not (tool.function.description or "").strip():
            made["function"].pop("description", None)  # Bedrock takes none that is empty
        if wire == "anthropic" and not _PLAIN_SCHEMA.issuperset(schema):
            self._schemas[tool.function.name] = {
                "properties": {},
                **self._without_alternatives(tool.function.name, schema),
                "type": "object",
            }
        elif wire == "gemini" or (wire == "converse" and has_refs(schema)):
            self._schemas[tool.function.name] = untitled(schema) if wire == "gemini" else schema
            made["function"]["parameters"] = {"type": "object", "properties": {}}
        return made

    def _without_alternatives(self, whose: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Anthropic takes none at the top of a tool's parameters."""
        if cut := sorted(_ALTERNATIVES.intersection(schema)):
            self._notes.append(f"{', '.join(cut)} at the top of the schema of {whose} was left out")
        return {key: value for key, value in schema.items() if key not in _ALTERNATIVES}

    # -- the form of the answer

    def _format(self) -> None:
        wanted = self._request.response_format
        if wanted is None or wanted.type == "text":
            return
        form, schema = self._form, None if wanted.json_schema is None else wanted.json_schema.schema_
        has_tools = "tools" in self._options and self._options.get("tool_choice") != "none"
        match form.wire:
            case "anthropic" | "converse" if form.is_claude or form.entry.get("supports_native_structured_output"):
                self._format_of_claude(schema, has_tools)
            case "gemini":
                if has_tools and not form.levels_of_gemini:  # of which the older take one or the other
                    self._ask_in_words(schema)
                else:
                    config: dict[str, Any] = {"response_mime_type": "application/json"}
                    if schema is not None:
                        config["response_json_schema"] = schema
                    self._body["generationConfig"] = config
            case "cohere":
                if has_tools:
                    self._ask_in_words(schema)
                else:
                    self._body["response_format"] = {"type": "json_object"} | (
                        {} if schema is None else {"json_schema": schema}
                    )
            case "converse":
                self._ask_in_words(schema)
            case _ if form.provider == "lm_studio" and schema is None:  # which knows schemas alone
                any_object = {"name": "answer", "schema": {"type": "object"}}
                self._options["response_format"] = {"type": "json_schema", "json_schema": any_object}
            case _ if form.provider == "deepseek" and schema is not None:  # which knows objects alone
                self._ask_in_words(schema)
                self._options["response_format"] = {"type": "json_object"}
            case _ if form.is_claude and schema is None:  # which knows schemas alone where it speaks that
                self._ask_in_words(schema)
            case _:
                place = self._body if self._imitates_openai else self._options
                place["response_format"] = wanted.model_dump(exclude_none=True, by_alias=True)

    def _format_of_claude(self, schema: Mapping[str, Any] | None, has_tools: bool) -> None:
        """Claude has a format for closed schemas; else a tool whose arguments are the answer, where it can be made to
        call one; else words."""
        form = self._form
        if schema is not None and self._has_format():
            found = closed_schema(schema)
            if found is not None:
                closed, in_words = found
                if in_words:
                    keys = ", ".join(sorted(in_words))
                    self._notes.append(f"of the schema, {keys} is asked for in words: {form.name} has no form for it")
                if form.wire == "anthropic":
                    self._body["output_config"] = {"format": {"type": "json_schema", "schema": closed}}
                else:
                    structure = {"jsonSchema": {"schema": json.dumps(closed, ensure_ascii=False), "name": "answer"}}
                    self._body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
                return
        choice = self._options.get("tool_choice")
        if has_tools and choice not in (None, "auto"):
            return  # it has to call one of the caller's tools, whose arguments have schemas of their own
        # One that thinks only because nobody told it not to is told so.
        stops = self._thinks and form.thinking.claude is None and not form.thinks_always and form.wire == "converse"
        can_force = form.is_claude and _can_be_forced(form) and (stops or not self._thinks)
        if schema is None or schema.get("type") != "object" or not can_force:
            self._ask_in_words(schema)
            return
        if stops:
            self._stop_thinking()
        description = "Gives the answer. Call it once, with the whole answer, when nothing else is to be looked up."
        function = {"name": JSON_TOOL, "description": description, "parameters": dict(schema)}
        self._schemas[JSON_TOOL] = self._without_alternatives("the answer", schema)
        if has_refs(schema):
            function["parameters"] = {"type": "object", "properties": {}}
        self._options["tools"] = [*self._options.get("tools", ()), {"type": "function", "function": function}]
        named = {"type": "function", "function": {"name": JSON_TOOL}}
        self._options |= {"tool_choice": "required" if has_tools else named, "json_mode": True}

    def _has_format(self) -> bool:
        """Whether a Claude has a format for schemas: on Bedrock some have it that do not need it unless they think."""
        form = self._form
        given = form.entry.get("supports_native_structured_output")
        if form.wire != "converse" or given:
            return bool(given) if form.is_known or given is not None else True
        there = form.entry.get("supports_bedrock_native_structured_output")
        by_default = form.entry.get("supports_bedrock_native_structured_output_by_default")
        if there is False or not (form.is_known or given is not None or there or by_default):
            return there is not False
        return bool(by_default or (there and self._thinks) or form.thinks_always or not _can_be_forced(form))

    def _ask_in_words(self, schema: Mapping[str, Any] | None) -> None:
        self._in_words = True
        asked = "Answer with one JSON value and nothing else: no words around it, no code fence."
        if schema is None:
            asked = "Answer with one JSON object and nothing else: no words around it, no code fence."
        else:
            asked += f" It has to be valid by this JSON schema:\n{json.dumps(schema, ensure_ascii=False)}"
        self._system.append(asked)
        what = "json_object" if schema is None else "json_schema"
        self._notes.append(f"response_format {what} is asked for in words: {self._form.name} has no form for it here")

    # -- thinking, words, length

    def _thinking(self) -> None:
        form, effort = self._form, self._form.thinking.effort
        if form.thinks_as_claude:
            self._think_as_claude(effort)
            return
        given = form.params.get("thinking")
        if form.wire == "gemini":
            if (config := gemini_thinking(form)) is not None:
                self._body.setdefault("generationConfig", {})["thinkingConfig"] = config
            return
        if effort is None:
            levelled = form.wire == "converse" or (
                form.provider in ("openai", "azure") and "thinking" not in form.allowed
            )
            if given is not None and not levelled:
                self._body["thinking"] = given
            return
        switch = {"type": "disabled" if effort == "none" else "enabled"}
        match form.provider:
            case _ if form.wire == "responses":
                self._body["reasoning"] = {"effort": effort}
            case _ if form.wire == "converse" and "nova" in form.model:
                if effort != "none":
                    self._body_of_model({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}})
            case _ if form.wire == "converse":
                self._body_of_model({"reasoning_effort": effort})
            case "openrouter":
                level = nearest(effort, _OPENROUTERS)
                self._body["reasoning"] = {"effort": level}
                if level != effort:
                    self._notes.append(became(effort, level, form.name))
            case "deepseek":
                self._body["thinking"] = given or switch
                if effort != "none":
                    self._body["reasoning_effort"] = effort
            case "zai" | "cohere" | "cohere_chat":
                self._body["thinking"] = given or switch
            case "moonshot" if "reasoning_effort_levels" not in form.entry:
                self._body["thinking"] = given or switch
            case "mistral" if "reasoning_effort_levels" not in form.entry and form.model.startswith("magistral"):
                if effort != "none":
                    self._body["prompt_mode"] = "reasoning"
            case _:
                self._body["reasoning_effort"] = effort

    def _body_of_model(self, fields: Mapping[str, Any]) -> None:
        """What Bedrock hands on to the model as it is."""
        self._body["additionalModelRequestFields"] = {**self._body.get("additionalModelRequestFields", {}), **fields}

    def _think_as_claude(self, effort: str | None) -> None:
        form = self._form
        thinking = self._claude_thinking
        if thinking is not None and thinking.get("type") == "enabled" and self._limit is not None:
            # It counts towards the limit, which has to be larger: half of it is for the answer, if it is large enough.
            asked = thinking["budget_tokens"]
            budget = min(asked, max(LEAST_BUDGET, self._limit // 2))
            if budget >= self._limit:
                self._notes.append(f"thinking was left out: it does not fit into {self._limit} tokens")
                self._thinks, thinking, effort = False, None, None
            else:
                thinking = {**thinking, "budget_tokens": budget}
                if budget < asked == budget_of(form.params.get("thinking")):  # and no level stands for it
                    self._notes.append(f"thinking of {asked} tokens became {budget}, to leave some for the answer")
        fields: dict[str, Any] = {} if thinking is None else {"thinking": dict(thinking)}
        given = form.params.get("output_config")
        config = dict(given) if isinstance(given, Mapping) else {}
        if effort is not None and (thinking is not None or form.thinks_always):
            config["effort"] = effort
        if config:
            fields["output_config"] = config
        if not fields:
            return
        if form.wire == "converse":
            self._body_of_model(fields)
        else:
            self._body = _laid_over(fields, self._body)

    def _sampling(self) -> None:
        """How words are chosen: left out where the model chooses in its own way."""
        form = self._form
        asked = {key: form.params[key] for key in SAMPLING if form.params.get(key) is not None}
        if self._request.temperature is not None:
            asked["temperature"] = self._request.temperature
        if form.wire == "gemini" and form.entry.get("supports_sampling_params") is False:
            self._body.setdefault("generationConfig", {})["temperature"] = None  # which LiteLLM adds by itself
        if not asked:
            return
        if form.entry.get("supports_sampling_params") is False or self._reasons():
            refused: tuple[str, ...] = SAMPLING
        elif form.is_claude and self._thinks:
            refused = ("temperature", "top_k") if _is_high(asked.get("top_p")) else ("temperature", "top_p", "top_k")
        elif form.is_claude and "temperature" in asked:
            refused = ("top_p",)  # it takes one of the two
        elif form.provider == "gemini" and form.levels_of_gemini:
            refused = _PENALTIES
        else:
            refused = ()
        for key in refused:
            if key in form.allowed:
                continue
            # 1 is how such a model chooses anyhow, though it does not take the word.
            if key in asked and asked.pop(key) != 1:
                self._left_out(key)
        warm = asked.get("temperature")
        if form.is_claude and isinstance(warm, int | float) and warm > 1:
            self._notes.append(f"temperature became 1, the highest that {form.name} takes")
            asked["temperature"] = 1
        if form.reasons_in_openais_way or form.provider == "moonshot":  # LiteLLM refuses by the name, or lowers it
            self._body |= asked
        else:
            self._options |= asked

    def _reasons(self) -> bool:
        """Whether it is one of OpenAI's that reasons for this request: then it takes none of these."""
        if not self._form.reasons_in_openais_way:
            return False
        return (self._form.thinking.effort or self._form.entry.get("default_reasoning_effort")) != "none"

    def _limits(self) -> None:
        if self._limit is None:
            return
        self._options[self._form.limit_key] = self._limit
        self._note_limit()

    def _note_limit(self) -> None:
        asked, limit = self._request.max_tokens, self._limit
        if asked is None or limit is None or limit == asked:
            return
        why = "least that {} takes" if limit > asked else "most that the config lets {} answer"
        self._notes.append(f"max_tokens became {limit}, the {why.format(self._form.name)}")

    def _others(self) -> None:
        params = self._form.params
        if "tools" in self._options and (parallel := params.get("parallel_tool_calls")) is not None:
            if self._form.wire != "gemini":
                self._options["parallel_tool_calls"] = parallel
            elif not parallel:  # which it has no word for
                self._left_out("parallel_tool_calls")
        if self._form.wire == "openai" and self._form.provider in ("openai", "azure"):
            said = self._deployment.params
            self._body |= {key: said[key] for key in _FORGOTTEN if said.get(key) is not None}
        # These are taken, which LiteLLM does not know.
        taken = _PENALTIES if self._form.is_mistral_s else ("seed",) if self._form.wire == "gemini" else ()
        if taken:
            self._options["allowed_openai_params"] = [*self._options.get("allowed_openai_params", ()), *taken]
        if isinstance(given := params.get("extra_body"), Mapping):
            self._body = _laid_over(self._body, without_limits(given))


# OpenAI's own, which LiteLLM 1.82.5 takes and does not send.
_FORGOTTEN = ("verbosity", "store", "prompt_cache_key")


def _is_cut(tool: Tool) -> bool:
    """Whether it has parameters that LiteLLM takes for words of a schema, or of its own, and leaves out."""
    return not _CUT.isdisjoint(property_names(tool.function.parameters))


_CUT = frozenset({"strict", "cache_control"})
_PENALTIES = ("presence_penalty", "frequency_penalty")


def _without_strict(tool: Mapping[str, Any]) -> dict[str, Any]:
    """As LiteLLM sends it: not every server knows the word."""
    return {**tool, "function": {key: value for key, value in tool["function"].items() if key != "strict"}}


_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ALTERNATIVES = frozenset({"oneOf", "anyOf", "allOf"})
_OPENROUTERS = ("none", "minimal", "low", "medium", "high", "xhigh")
_PLAIN_SCHEMA = frozenset({"type", "properties", "required", "additionalProperties"})  # what LiteLLM keeps of one


def _can_be_forced(form: Form) -> bool:
    return form.entry.get("supports_forced_tool_use") is not False


def _is_high(top_p: Any) -> bool:
    return isinstance(top_p, int | float) and top_p >= 0.95


def plain(message: Message, form: Form) -> dict[str, Any]:
    """A message in OpenAI's format, as far as this provider knows it."""
    plain = message.model_dump(exclude_none=True, by_alias=True)
    if message.role == "tool" or not _takes_name(message, form):
        plain.pop("name", None)  # a tool's is in the call
    if form.is_mistral_s:
        for call in plain.get("tool_calls", ()):
            call["id"] = _short(call["id"])
        if "tool_call_id" in plain:
            plain["tool_call_id"] = _short(plain["tool_call_id"])
            if not message.content:  # which LiteLLM would leave out, with the whole message
                plain["content"] = [{"type": "text", "text": ""}]
    reads_parts = form.is_openais_own if form.wire == "openai" else form.wire != "gemini" or message.role == "user"
    if isinstance(message.content, list) and not (reads_parts or _shows(message)):
        # Not every server reads a list of texts, none reads it otherwise, and for Gemini LiteLLM glues them together.
        plain["content"] = "\n".join(part.text or "" for part in message.content)
    for call in plain.get("tool_calls", ()):
        if form.wire == "converse":
            call["function"]["name"] = _name_of_bedrock(call["function"]["name"])
        # Some models write none where a tool takes none; not every server reads that, and LiteLLM fills it for Gemini.
        if not call["function"]["arguments"].strip():
            call["function"]["arguments"] = "{}"
    plain.setdefault("content", None)  # providers want the key, even beside tool calls alone
    return plain


def _in_order(messages: Sequence[Message]) -> Iterator[Message]:
    """The same with the results of each turn in the order of its calls: Gemini and most chat templates know no ids."""
    order: dict[str | None, int] = {}
    results: list[Message] = []
    for message in messages:
        if message.role == "tool":
            results.append(message)
            continue
        yield from sorted(results, key=lambda result: order.get(result.tool_call_id, len(order)))
        order, results = {call.id: place for place, call in enumerate(message.tool_calls or ())}, []
        yield message
    yield from sorted(results, key=lambda result: order.get(result.tool_call_id, len(order)))


def _says(message: Message, form: Form) -> bool:
    """Whether anything is in it: Gemini and Mistral take no empty answer."""
    wants = form.wire == "gemini" or form.is_mistral_s
    return not wants or message.role != "assistant" or bool(message.content or message.tool_calls)


def _shows(message: Message) -> bool:
    return isinstance(message.content, list) and any(part.image_url is not None for part in message.content)


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _left_behind(messages: Sequence[Message], form: Form) -> Iterator[str]:
    """What of a conversation has no place in this format, one line each."""
    said = [message.role for message in dropwhile(_is_system, messages)]
    if form.wire in ("anthropic", "converse", "gemini") and not {"system", "developer"}.isdisjoint(said):
        yield f"what the system says later was put at the beginning: {form.name} takes it nowhere else"
    if any(message.name and message.role != "tool" and not _takes_name(message, form) for message in messages):
        yield not_taken("name", form.name)


def _takes_name(message: Message, form: Form) -> bool:
    """Whether its speaker's name goes out; one with other letters is refused."""
    has_place = form.wire == "openai" and not form.is_mistral_s and form.provider not in ("ollama", "xai")
    return has_place and _SPEAKER.fullmatch(message.name or "") is not None


def _short(id_: str) -> str:
    """An id as Mistral wants it: nine letters or digits, the same for the same."""
    return id_ if _NINE.fullmatch(id_) else hashlib.sha256(id_.encode()).hexdigest()[:9]

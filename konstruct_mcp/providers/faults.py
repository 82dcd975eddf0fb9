"""What a provider's failure means: an exception out of LiteLLM becomes one `Fault`.

LiteLLM's exception classes go by words in the provider's message (a 400 that mentions "429" is a RateLimitError) and
differ between providers, so the HTTP answer itself decides: by its status, then the code or type in its body, and by
words only where providers have no code of their own. Where there is none, no HTTP answer came, or one with status 200
that could not be read, or nothing was sent at all: LiteLLM refuses in a provider's name what it cannot make a request
of, and only whether something left the process tells the two apart.

The exception goes no further than this module: it holds the key, the prompt and the provider's raw body.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import json
import math
import re
import socket
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from konstruct_mcp.config.access import is_word_of_an_address
from konstruct_mcp.config.masking import MASK
from konstruct_mcp.config.model import Deployment, is_price
from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.litellm.refusals import TUNING, Way, named_in
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind

_REASON_LIMIT = 300  # characters of a provider's reason: enough to act on, too little to smuggle a page


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


_OVERFLOW = _words(
    r"context.?(length|window|size|limit)|prompt (is )?too long|input tokens exceed|too many (input )?tokens",
    r"exceeds? the (model's )?(maximum|available) (input )?(context|number of tokens|token)|input is too long for",
    r"exceed(s|ed)? (the )?(model('s)? )?(total )?tokens? limit|prompt (token count of \d+ )?exceeds",
    r"input token length too long|range of input length|must have less than \d+ tokens|tokens \+ \S+ must be <=",
    r"tokens_limit_reached|maximum (allowed input|prompt) length|reduce the length of the (messages|input|prompt)",
    r"prompt 超长|上下文长度",
)
# The answer that was asked for is longer than the model writes; some say in the same breath how much it reads.
_ANSWER_LIMIT = _words(
    r"(?<!\+ )(?<!\+ .)max(imum)?[_ ](completion[_ ]|output[_ ]|new[_ ])?tokens\W{0,3} (must|should|has to) be "
    r"(<|less|lower|smaller|at most|no more|between|in the range|within)",
    r"(valid )?range of .?max_(\w{1,30}_)?tokens\b|has a maxOutputTokens value|maximum tokens you requested exceed",
)
_POLICY = _words(
    r"content.?(filter|policy|management policy)|safety system|usage (polic|guidelines)|SAFETY_CHECK",
    r"content exists risk|violat(es?|ed|ing) .{0,30}(guidelines|polic)|(unsafe|sensitive|inappropriate) content",
    r"new_sensitive|data_?inspection_?failed|cyber_policy|limited access to this content|blocked due to security",
    r"guardrail.{0,12}(blocked|intervened)|blocked by .{0,20}guardrail",
)
_FLAGGED = _words(r"moderation|flagged")
# Money that is gone, whatever else is said.
_NO_MONEY = _words(
    r"insufficient_(\w{1,30}_)?quota|insufficient[ _](balance|credits|funds)|billing_(hard_)?limit|billing hard limit",
    r"balance is (too low|insufficient)|余额不足|额度不足|欠费|billing_not_active|arrearage|INVALID_PAYMENT",
    r"exceeded.current.quota_error|token_quota_reached|PerDayPerProject",
)
# And what stands in advice too, by those who limit a rate.
_QUOTA = _words(
    r"credit balance|payment method|payment (is )?required|requires more credits|(out of|any|all( available)?) credits",
    r"(out of|from your) (extra )?usage|spend(ing)? limit|free tier .{0,40}exhausted|package has expired",
)
_USED_UP = _words(
    r"\b(reached|exceeded|hit|over)\b.{0,40}\b(usage|spend(ing)?|billing|budget|key) limits?\b",
    r"(usage|spend(ing)?|billing|budget|key) limits? ((has|have|is|are|was|were) )?(been )?(exceeded|reached)",
    r"exceeded (your|the|its|this|a) .{0,30}\b(budget|spend)|budget[ _](has been |was |is )?exceeded|over budget",
)
# So much in a time: what is over for now comes back by itself, whatever the provider advises to buy meanwhile.
_PER_TIME = _words(
    r"rate[ _-]?limit|per[ _-]?(second|minute|(sec|min)\b)|/ ?(s|sec|second|min|minute)\b|\b[RTQ]P[SMD]\b",
    r"(requests?|tokens?|calls?|queries|messages|prompts)[ _-]?per[ _-]?(hour|day)",
)
_LIMIT = _words(r"limit|quota|exceed|reached|too many|throttl")
_KEY = _words(r"api.?key.{0,20}(not valid|invalid|expired)|(invalid|incorrect).{0,5}api.?key|API_KEY_INVALID")
_OF_A_KEY = _words(r"api.?key")
# A limit that this very request is beyond, so that waiting does not help, and another request may be within it.
_TOO_LARGE = _words(r"(request )?too large .{0,200}\b(per (min|day)|TPM)", r"\(TPM\): Limit \d+, Requested")
_TOO_DEAR = _words(r"fewer max_tokens|can only afford")
_ACCOUNT = _words(
    r"(organi[sz]ation|account|workspace|project|team)\b[^.:;=()]{0,60}\b(is|are|was|were|been|currently)( \w+)? "
    r"(disabled|deactivated|suspended|blocked|not active)",
    r"(organi[sz]ation|account|workspace|project|team)[ _](disabled|deactivated|suspended|blocked|not active)",
    r"must be verified|verify (your )?organi[sz]ation|unsupported_country|country, region|(user )?location is not",
    r"not (available|supported|offered) in (your|this|the) (country|region|location|territory)",
    r"region .{0,40}not support|not (yet )?available for (this|your) (subscription|account|organi[sz]ation|plan)",
    r"not authorized|access (is )?denied|(do(es)? not|don't) have (access|permission)|data policy",
    r"SERVICE_DISABLED|has not been used in project",
    r"organi[sz]ation_restricted|(organi[sz]ation|account|workspace|project|team) (has been|is|was) restricted",
    r"(credential|api.?key|subscription)\b.{0,40}\b(only (be )?(authorized|valid|used)|cannot be used|not be used)\b",
    r"(organi[sz]ation|account|workspace|project|team|subscription|user|key)\b[^.:;=()]{0,60} not allowed to use",
    r"verify your account|requires terms acceptance",
    r"requires a subscription|blocked at the (project|organi[sz]ation)|use case details",
    r"region_territory|territory not supported",
)
# An account's fault where a code says so, or where it is all that is said; else that of two things asked together.
_NOT_ALLOWED = _words(r"not allowed to use|(operation|request) (is )?not allowed")
_CODE_OF_PERMISSION = _words(r"permission|forbidden|access_?denied|not_?allowed|unauthori[sz]ed")
_ONLY_NOT_ALLOWED = _words(r"^\W*(this )?(operation|request) (is )?not allowed\W*$")
# What has happened to the model there, which has nothing to do with the request.
_DOWN = _words(
    r"DEGRADED function|model (has )?(crashed|been unloaded|unloaded)|failed to load model|out of memory|CUDA error",
)
# Which one it is, and no more of a sentence than its verb.
_MODEL = r"\bmodel:?( (id|name|named|version|identifier):?)?( +[^\s,;]+)? +((has|have|does|do|is|was) +)?"
_GONE = _words(
    r"model_(decommissioned|not_found|not_supported|deprecated)|invalid_model\b|decommissioned|end.of.life",
    rf"{_MODEL}(is|been|was|not) (deprecated|retired|discontinued|removed|exist|found)\b",
    rf"{_MODEL}no longer (available|offered|served|exists)",
    r"(invalid model|not a valid model|model identifier is invalid|unknown model|requested model is not)",
    r"models/\S{1,200} (is|was) not found|not a chat model|no endpoints found for\b",
    r"OperationNotSupported|does not work with the specified model|on-demand throughput",
)
# What is wrong with the conversation itself, wherever it goes: an answer to no call, a call without one.
_MALFORMED = _words(
    r"tool_use.{0,80}without.{0,20}tool_result|unexpected .?tool_use_id|tool_result.{0,120}corresponding .?tool_use",
    r"role.{0,3} .?tool.{0,3} must be a response to|must be followed by tool messages|tool_call_id.{0,60}not found",
    r"tool id\b.{0,60}not found|function call turn comes",
    r"did not have response messages|function response parts|not the same number of function calls and responses",
    r"unexpected role .?tool.? after|(could not|failed to|unable to) (parse|process) .{0,20}(json|body|image)",
    r"invalid_image",
    r"duplicate tool.?(call)?.?(id|name)|tool names must be unique",
)
# What a provider says of a part of the request, by its name there: whatever else it says is about that, and often its
# writer's own words.
_FIELDS = (
    r"(messages|input|contents|system|tools|tool_choice|functions?|response_format|text\.format|output_(config|format)"
    r"|metadata|thinking|reasoning\w*|budget_tokens|max_\w*tokens|temperature|top_[pk]|stop\w*|toolConfig"
    r"|generation_?config|GenerateContentRequest)"
)
_OF_A_FIELD = _words(
    rf"^\W*{_FIELDS}([.\[][\w.\[\]$-]*)?['\"`]?\s*:",
    rf"^(invalid|missing)\b[^'\"`]{{0,40}}['\"`]{_FIELDS}\b",
    r"^invalid (\w+ )?schema\b",
)
_CODE_OF_A_FIELD = _words(r"invalid_function_parameters|invalid_(json_)?schema|invalid_tool")
_OF_THE_CONVERSATION = _words(
    r"^\W*(messages|input|contents|system|tools|functions)([.\[][\w.\[\]$-]*)?['\"`]?\s*(:|$)",
    r"^invalid (\w+ )?schema\b",
)
# The request's own text. Of what else a provider names there, an account may be the reason.
_PARAM_OF_TEXT = _words(
    r"^(messages|input|contents|system|tools|tool_choice|functions|response_format|text|metadata)\b"
)
# Each ends at the next mark of its kind, and what is escaped opens none that is not, so that many which nobody closes
# take no longer; apostrophes stand in words.
_QUOTED = re.compile(
    r"""(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)|(?<!\\)"(?:[^"\\]|\\.)*"|\\"[^"]*"|`[^`]*`"""
    r"""|‘[^‘’]*(?:(?<=\w)’(?=\w)[^‘’]*)*’|“[^“”]*”""",
    re.DOTALL,
)
_OPENED = re.compile(r"""(?<![\w\\])["'`‘“]|\\\"""")
# In quotes too, a parameter's name is its provider's own word.
_QUOTED_NAME = re.compile(rf"[^\w]{_FIELDS}[^\w]", re.IGNORECASE)
# Another error, as JSON, or what a model's template says.
_WRAPPED = re.compile(
    r"""^[^'"`{]*(?:b['"])?\{.*?["']message["']:\s*(["'])(?P<error>.*?)(?<!\\)\1"""
    r"""|^[^'"`{]*\btemplate: (["'])(?P<template>.*)\3\W*$""",
    re.DOTALL,
)
# What the deployment lacks.
_LACKS = _words(
    r"(does|do)(n't| not) (yet |currently )?(support|allow|accept|work)|(is|are)(n't| not) (\w+ )?(supported|enabled)",
    r"not (yet |currently )?(supported|enabled|permitted|implemented)|unsupported|supports? only|only supports?",
    r"only .{0,60}\b(is|are) supported|supported (values|parameters|types|models) are|prefill|must end with a user",
    r"last message must|requires --|requires .{0,30} to be set|response_format type is unavailable|extra inputs are",
    r"unrecognized (request argument|parameter)|unknown (parameter|name|field)|no endpoints found|can handle the req",
    r"maximum (allowed )?(number of )?(output|completion) tokens|supports at most|at most \d+ (image|document)",
    r"(is|are) enabled only|cannot be disabled|incompatible with|non-streaming calls",
    r"expected last role|unknown variant|unimplemented|(chat|prompt) template|jinja|roles must alternate",
)
_LACKS_ON_SERVER = _words(
    r"requires --|is not supported - hint|does not support|failed to (load|find) .{0,20}mmproj|jinja",
    r"prefill is incompatible with|roles must alternate|failed to parse tool call arguments",
)
# What it says of the reasoning in the history, which is put there by us, or is missing because it is gone.
_THOUGHT = _words(
    r"signature.{0,20}thinking|thought_?signature|thought signature|thinking. blocks? .{0,60}cannot be modified",
    r"expected .?(redacted_)?thinking|encrypted.content.{0,400}(verified|decrypted)|invalid_encrypted_content",
    r"reasoning_content.{0,80}(missing|must (not )?be|passed back)|missing .?reasoning_content",
    r"\bmessages\b.{0,80}property .?reasoning\w*.? is unsupported|messages\S{0,80}\.reasoning\w*: extra inputs",
    r"both content and thinking|without its required .?(reasoning|following item)",
)
# The model itself wrote what its provider then refused.
_BAD_WRITING = _words(r"tool_use_failed|json_validate_failed|failed_generation|output_parse_failed")

_PACKAGES = {
    "boto3": "boto3",
    "botocore": "boto3",
    "google": "google-auth",
    "vertexai": "google-cloud-aiplatform",
    "azure": "azure-identity",
    "databricks": "databricks-sdk",
}
_NO_CREDENTIALS = _words(r"credential|api.?key|_KEY\b|token|authenticat|log.?in")
_UNKNOWN_MODEL = _words(r"no healthy deployments|provider not provided|no deployments available")


@dataclass(frozen=True)
class _Said:
    """What a provider says of a failure, apart from its HTTP status: empty where it has another form.

    What it quotes may be anything that the user or the model wrote. So what outlasts the request (its account, its
    model, its quota, how it wants to be asked) goes by what it `says` in its own words, and only what is of this
    request alone by what it `mentions` in whichever.

    Attributes:
        codes: code, type and status of the error, as far as it has them.
        number: the code, where it is an HTTP status.
        wait_s: seconds that it asks to wait.
    """

    codes: str = ""
    message: str = ""
    param: str = ""
    number: int | None = None
    wait_s: float | None = None

    def says(self, words: re.Pattern[str]) -> bool:
        """Whether these are in its codes, or in its own words."""
        return words.search(self._own) is not None

    def mentions(self, words: re.Pattern[str]) -> bool:
        """Whether these are in its codes, or in its words and what they quote."""
        return words.search(f"{self.codes} {self.message}") is not None

    @functools.cached_property
    def _own(self) -> str:
        return f"{self.codes} {_own_words(self.message)}"

    @property
    def is_of_a_field(self) -> bool:
        """Whether it is about a part of the request, and so not about an account or a model."""
        return (
            _OF_A_FIELD.search(self.message) is not None
            or _CODE_OF_A_FIELD.search(self.codes) is not None
            or _PARAM_OF_TEXT.search(self.param) is not None
        )

    @functools.cached_property
    def is_of_a_rate(self) -> bool:
        """Whether it is about how much may be asked in a time."""
        return self.says(_PER_TIME) and self.says(_LIMIT)

    @property
    def is_of_the_account(self) -> bool:
        """Whether it is about what an account may not."""
        if self.says(_ACCOUNT) or _ONLY_NOT_ALLOWED.search(self.message):
            return True
        return _CODE_OF_PERMISSION.search(self.codes) is not None and self.says(_NOT_ALLOWED)


# -- a failure out of LiteLLM ------------------------------------------------------------------------------------------


def fault_of(
    error: BaseException,
    deployment: Deployment,
    secrets: Collection[str],
    *,
    left: bool = True,
    answer: Any = None,
    request: Request | None = None,
) -> Fault:
    """The fault that a call of this deployment ended in. `secrets` are kept out of what it says.

    Args:
        left: whether a request may have left the process.
        answer: the HTTP answer that came last, if one did.
        request: what was asked.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, FaultError):
            return link.fault
    response = _response(chain, answer)
    if response is answer is not None and answer.status_code < 300:
        # Read as far as it goes, and no answer; it may still say what became of it.
        said = _said(answer)
        found = fault_of_body(answer.status_code, said.number or said.codes, said.message, secrets)
        return found if found.kind is not FaultKind.BAD_ANSWER else _silent_fault(chain, deployment)
    if response is not None:
        names = {type(link).__name__ for link in chain}
        return _http_fault(int(response.status_code), _said(response), names, response.headers, secrets)
    if not left and not any(type(link).__module__.startswith(_UNSEEN) for link in chain):
        return _unmade(chain, request)
    return _silent_fault(chain, deployment)


# The library of Google's oldest models, whose requests nobody sees leave.
_UNSEEN = ("grpc", "google.api_core")


def fault_of_body(status: int, code: object, message: str, secrets: Collection[str] = ()) -> Fault:
    """The fault that an error in an answer's body is, whose HTTP status says otherwise: a gateway has already sent 200
    when the provider behind it fails. `code` is the one inside, a number or a word."""
    code, message = code if isinstance(code, int) else str(code)[:_MOST_SAID], message[:_MOST_SAID]
    said = _Said(str(code), message)
    told = _status(code)
    number = told or next((number for words, number in _CODES if words.search(said.codes)), None)
    if number is None and said.is_of_a_rate:
        number = 429
    if number is None and any(map(said.says, (_OVERFLOW, _POLICY, _NO_MONEY, _QUOTA, _KEY))):
        number = 400
    number = number or next((number for words, number in _SAYINGS if said.says(words)), None)
    if number is None:
        # A redirect is not followed, and no answer.
        ran = False if 300 <= status < 400 else None
        return Fault(
            FaultKind.BAD_ANSWER, f"HTTP {status} with an error in it" if message else f"HTTP {status}", ran=ran
        )
    fault = _http_fault(number, said, (), {}, secrets)
    only_said = fault.only_said or told is None
    # It had begun to answer when it failed, unless it only says that it is busy.
    ran = fault.ran if fault.kind is not FaultKind.SERVER_ERROR else number not in _OVERLOADED
    return replace(fault, detail=f"HTTP {status} with an error {number} in it", only_said=only_said, ran=ran)


def billed(fault: Fault, deployment: Deployment) -> Fault:
    """The same fault, with what is known of its provider's bills.

    Azure charges for what its filters stop and what is too long, as its documentation says; OpenRouter for no answer
    that ends in an error, even where who is behind it does.
    """
    provider = deployment.model.partition("/")[0]
    if provider in ("azure", "azure_ai") and fault.kind in (FaultKind.CONTENT_POLICY, FaultKind.CONTEXT_OVERFLOW):
        return replace(fault, ran=True)
    if provider == "openrouter" and fault.kind is FaultKind.SERVER_ERROR:
        return replace(fault, ran=False)
    return fault


# The HTTP statuses that go with words in the place of a number.
_CODES = (
    (_words(r"rate.?limit|too_many_requests|throttl|resource_?exhausted"), 429),
    (_words(r"quota|insufficient|payment"), 402),
    (_words(r"overloaded|unavailable|bad_gateway"), 503),
    (_words(r"timeout"), 504),
    (_words(r"server_?error|internal|api_error"), 500),
    (_words(r"auth|permission|api_key"), 401),
    (_words(r"not_?found"), 404),
    (_words(r"invalid|context_length|content_|unsupported|bad_?request"), 400),
)


# And those that go with a message, where its code is a number of the provider's own, or missing.
_SAYINGS = (
    (_words(r"rate.?limit|too many requests|throttl|resource.?exhausted|(usage|request) limit|token limit|quota"), 429),
    (_words(r"overload|unavailable|at capacity|over capacity|no capacity|try again later|server (is )?busy"), 503),
    (_words(r"timed? ?out"), 504),
    (_words(r"(server|internal|upstream) error"), 500),
    (_words(r"login fail|unauthori[sz]ed|authenticat|invalid token"), 401),
    (_GONE, 404),
)


def blamed(error: BaseException, passed: Collection[str], *, left: bool, answer: Any = None) -> tuple[str, ...]:
    """Those of the passed parameters that the call was refused for, by LiteLLM (where nothing left) or the provider."""
    chain = list(_chain(error))
    if not left:
        unsupported = next((link for link in chain if type(link).__name__ == "UnsupportedParamsError"), None)
        return () if unsupported is None else named_in(_litellms_words(unsupported), passed)
    response = _response(chain, answer)
    if response is None or response.status_code not in (400, 422):
        return ()
    said = _said(response)
    if said.mentions(_THOUGHT) or _OF_THE_CONVERSATION.search(said.param or said.message):
        return ()  # which goes by what is in this conversation, and not by a parameter
    found = named_in(said.message, [name for name in passed if name in TUNING], said.param)
    if not found:
        return ()
    fault = _http_fault(response.status_code, said, (), response.headers, ())
    return found if fault.kind in (FaultKind.UNFIT, FaultKind.REFUSED) else ()


def refused_thought(error: BaseException, *, left: bool, answer: Any = None) -> str:
    """What the provider says of the reasoning in the history, where that is what the call was refused for: that it
    cannot be read there, or is not there. Empty where it was refused for anything else."""
    response = _response(list(_chain(error)), answer)
    if not left or response is None or response.status_code not in (400, 422, 500):  # llama.cpp's templates
        return ""
    said = _said(response)
    return said.message if said.mentions(_THOUGHT) else ""


# What a provider wants in another way than it has got it. llama.cpp answers 500 where a model's template refuses.
_WANTS: tuple[tuple[re.Pattern[str], Way], ...] = (
    (_words(r"\buse .{0,3}max_completion_tokens"), "max_completion_tokens"),
    (
        _words(r"system (message|prompt|role)s?\b.{0,40}\b(beginning|first|start)\b", r"roles must alternate"),
        "system first",
    ),
)


def wanted(error: BaseException, answer: Any) -> Way | None:
    """The way in which the provider wants to be asked that has refused a call, where it says so."""
    response = _response(list(_chain(error)), answer)
    if response is None or response.status_code not in (400, 422, 500):
        return None
    said = _said(response)
    return None if said.is_of_a_field else next((way for words, way in _WANTS if said.says(words)), None)


def is_unsupported(error: BaseException) -> bool:
    """Whether LiteLLM says that a parameter is not taken."""
    return any(type(link).__name__ == "UnsupportedParamsError" for link in _chain(error))


# The model has begun, and one token was too little to end with; or the provider wants to be asked for more.
_CUT_SHORT = _words(
    r"could not finish .{0,80}\b(max_\w*tokens|limit)",
    r"(max_\w*tokens|output limit).{0,40}\b(was |is |has been |were )?reached",
    r"max_\w*tokens\W.{0,60}(below (the )?minimum|at least|greater than( or equal to)?|>=|too (small|low))",
)


def is_cut_short(fault: Fault) -> bool:
    """Whether a provider says that so few tokens are too few for an answer, and nothing else is wrong."""
    return fault.sent and _CUT_SHORT.search(fault.reason) is not None


def _litellms_words(error: BaseException) -> str:
    """Its own, up to its advice on its settings."""
    return str(getattr(error, "message", "")).rpartition("Error: ")[2].partition("To drop")[0]


def _own_words(message: str) -> str:
    """A provider's message without what is quoted in it, but for what speaks for it, and for the names of parameters.
    Where it was too long to be read to its end, so was perhaps what it quotes."""
    wrapped = _WRAPPED.search(message)
    own = message if wrapped is None else wrapped["error"] or wrapped["template"] or ""
    own = _QUOTED.sub(lambda quoted: quoted[0][1:-1] if _QUOTED_NAME.fullmatch(quoted[0]) else "…", own)
    return own if len(message) < _MOST_SAID else _OPENED.split(own, maxsplit=1)[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _response(chain: list[BaseException], answer: Any) -> Any:
    """The HTTP answer that an exception of LiteLLM's was raised from, or that came last."""
    for link in chain:
        response = getattr(link, "response", None)
        if type(link).__module__.split(".")[0] != "litellm" and hasattr(response, "status_code"):
            return response
    return answer


# Statuses of 4xx that do not blame the request. Groq answers 498 where a service tier is full, Bedrock 424 where a
# model has failed.
_BUSY = (420, 498)
_BROKEN = (409, 421, 423, 424, 425, 499)
_ANY_REASON = (400, 403, 422, 500, 501)  # which some answer for a limit too
_LATE = (408, 524)  # Cloudflare's, after its hundred seconds: another try takes as long
# A gateway has lost sight of who is behind it, where a model may have worked on. A server that says by itself that it
# has failed (500) or is busy (503, 529) bills nothing, as far as providers say anything of it.
_LOST_SIGHT = (499, 502, 504, 520)
_OVERLOADED = (503, 529)
_GUARDRAIL = 446  # Portkey's and WSO2's, for what a check of the operator's own has stopped


# With these it is the account or its limit, whatever is said; a word of the request's own is not taken for that.
_SPEAK_FOR_THEMSELVES = (401, 402, 407, 410, 429)


def _http_fault(
    status: int, said: _Said, litellm_says: Collection[str], headers: Mapping[str, str], secrets: Collection[str]
) -> Fault:
    if status < 400:
        return fault_of_body(status, said.number or said.codes, said.message, secrets)
    found = _fault_of_status(status, said, litellm_says, headers)
    reason = (_one_line(said.message, secrets) or found.detail) if found.reason else ""
    only_said = status not in _SPEAK_FOR_THEMSELVES or said.says(_TOO_LARGE) or said.says(_TOO_DEAR)
    return replace(found, reason=reason, only_said=only_said)


def _fault_of_status(status: int, said: _Said, litellm_says: Collection[str], headers: Mapping[str, str]) -> Fault:
    """Its reason is the provider's words as they are."""
    detail = f"HTTP {status}"
    retry_after_s = said.wait_s if (told := _retry_after(headers)) is None else told
    reason = said.message or detail
    if status == 407:
        return Fault(FaultKind.CONNECTION, detail, sent=False, lasting=True)
    if status in (400, 422) and _ANSWER_LIMIT.search(said.message):
        return Fault(FaultKind.UNFIT, detail, reason)
    if status in (400, 422) and (said.mentions(_MALFORMED) or said.is_of_a_field):
        return _refusal_of_a_field(detail, said, reason)
    if status == _GUARDRAIL or (status in (403, 424) and (said.says(_POLICY) or said.says(_FLAGGED))):
        return Fault(FaultKind.CONTENT_POLICY, detail)
    if status in (400, 413, 429) and said.says(_TOO_LARGE):
        return Fault(FaultKind.RATE_LIMITED, detail, lasting=True)
    comes_back = said.is_of_a_rate or (status == 429 and retry_after_s is not None)  # which says itself when
    if (
        (status == 402 and retry_after_s is None)
        or (status in (400, 401, 403, 429) and said.says(_NO_MONEY))
        or (status in (400, 401, 403, 429) and not comes_back and said.says(_QUOTA))
        or (status in (400, 403, 412, 429) and not comes_back and said.says(_USED_UP))
    ):
        return Fault(FaultKind.QUOTA, detail, lasting=True)
    if status in (402, 429, *_BUSY) or (status in _ANY_REASON and said.is_of_a_rate):
        return Fault(FaultKind.RATE_LIMITED, detail, retry_after_s=retry_after_s)
    if status == 403 and (said.is_of_the_account or said.says(_NOT_ALLOWED)) and not said.says(_OF_A_KEY):
        return Fault(FaultKind.ACCOUNT, detail, lasting=True)
    if status in (401, 403) or (status == 400 and said.says(_KEY)):
        return Fault(FaultKind.AUTH, detail)
    if status in _LATE:
        return Fault(FaultKind.TIMEOUT, detail)
    if status in (404, 410):
        is_gone = said.says(_GONE) or "NOT_FOUND" in said.codes.split()
        if said.is_of_the_account and not is_gone:
            return Fault(FaultKind.ACCOUNT, detail, lasting=True)
        if said.mentions(_LACKS) and not is_gone:
            return Fault(FaultKind.UNFIT, detail, reason)
        return Fault(FaultKind.NOT_FOUND, detail, lasting=status == 410)
    if status in (500, 501) and not said.says(_DOWN):
        if said.says(_OVERFLOW):
            return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
        if said.says(_LACKS_ON_SERVER):
            return Fault(FaultKind.UNFIT, detail, reason)
    if status in _BROKEN or status >= 500:
        return Fault(FaultKind.SERVER_ERROR, detail, retry_after_s=retry_after_s, ran=status in _LOST_SIGHT)
    return _refusal(detail, said, reason, litellm_says)


def _refusal(detail: str, said: _Said, reason: str, litellm_says: Collection[str]) -> Fault:
    """A status that blames the request: whose fault it is, the body says."""
    if "ContextWindowExceededError" in litellm_says or said.says(_OVERFLOW):
        return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
    if said.says(_DOWN):
        return Fault(FaultKind.SERVER_ERROR, detail)
    if said.is_of_the_account:
        return Fault(FaultKind.ACCOUNT, detail, lasting=True)
    if "ContentPolicyViolationError" in litellm_says or "invalid_prompt" in said.codes or said.says(_POLICY):
        return Fault(FaultKind.CONTENT_POLICY, detail)
    if said.says(_GONE):
        return Fault(FaultKind.NOT_FOUND, detail, lasting=True)
    if said.says(_BAD_WRITING):
        return Fault(FaultKind.BAD_ANSWER, detail)
    return _refusal_of_a_field(detail, said, reason)


def _refusal_of_a_field(detail: str, said: _Said, reason: str) -> Fault:
    """The request is wrong, or this deployment lacks what it asks. Nothing here can speak of an account."""
    if _BAD_WRITING.search(said.codes):
        return Fault(FaultKind.BAD_ANSWER, detail)
    if said.mentions(_MALFORMED):
        return Fault(FaultKind.BAD_REQUEST, detail, reason)
    if replace(said, message=_OF_A_FIELD.sub("", said.message)).says(_OVERFLOW):
        return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
    if said.mentions(_LACKS):
        return Fault(FaultKind.UNFIT, detail, reason)
    return Fault(FaultKind.REFUSED, detail, reason)


def _silent_fault(chain: list[BaseException], deployment: Deployment) -> Fault:
    """No HTTP answer can be read: a broken connection, or an unreadable one."""
    import aiohttp
    import httpx

    if any(isinstance(link, httpx.TimeoutException) for link in chain):
        return Fault(FaultKind.TIMEOUT, f"within {deployment.timeout_s:g} s", sent=not _never_stood(chain))
    if proxy := next((link for link in chain if isinstance(link, aiohttp.ClientHttpProxyError)), None):
        # A tunnel through it was refused, so that nothing has reached the provider.
        wants_login = proxy.status == 407
        return Fault(FaultKind.CONNECTION, f"its proxy answers HTTP {proxy.status}", sent=False, lasting=wants_login)
    if any(isinstance(link, httpx.TransportError | aiohttp.ClientConnectionError | OSError) for link in chain):
        known = next((words for kind, words in _BREAKS for link in chain if isinstance(link, kind)), None)
        return Fault(FaultKind.CONNECTION, known or "dropped", sent=not _never_stood(chain))
    return Fault(FaultKind.BAD_ANSWER)


def _never_stood(chain: list[BaseException]) -> bool:
    """Whether there was no connection by which anything could have reached the provider."""
    import aiohttp
    import httpx

    own = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, socket.gaierror, ConnectionRefusedError)
    if any(isinstance(link, own) for link in chain):
        return True
    # LiteLLM makes httpx's errors of aiohttp's, and this one of a connection too that breaks later.
    is_aiohttps = any(isinstance(link, aiohttp.ClientError) for link in chain)
    return not is_aiohttps and any(isinstance(link, httpx.ConnectError | httpx.ConnectTimeout) for link in chain)


_BREAKS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLError, "its certificate is not trusted"),
    (socket.gaierror, "host not found"),
    (ConnectionRefusedError, "refused"),
)


# -- what LiteLLM itself refuses ---------------------------------------------------------------------------------------


def _unmade(chain: list[BaseException], request: Request | None) -> Fault:
    """Nothing was sent: LiteLLM cannot make a request of this, and says so in the provider's name."""
    said = str(getattr(chain[0], "message", chain[0]))
    if is_unsupported(chain[0]):
        passed = () if request is None else [name for name in request.model_fields_set if name in _MEANING]
        names = named_in(_litellms_words(chain[0]), passed) or ("a parameter of the request",)
        return Fault(FaultKind.UNFIT, reason=f"it does not take {' and '.join(names)}", sent=False)
    if package := _missing_package(chain):
        return Fault(FaultKind.UNMADE, reason=f"needs {package}", sent=False)
    if _UNKNOWN_MODEL.search(said):
        return Fault(FaultKind.UNMADE, reason="LiteLLM knows no such model; check its name and settings", sent=False)
    if request is not None and (flaw := _flaw_of(request)):
        return Fault(FaultKind.REFUSED, reason=flaw, sent=False)
    if any(_NO_CREDENTIALS.search(str(link)) for link in chain):
        return Fault(FaultKind.UNMADE, reason="its key or its credentials are missing", sent=False)
    return Fault(FaultKind.UNMADE, reason="LiteLLM cannot make its request; check its settings", sent=False)


_MEANING = ("tools", "tool_choice", "response_format", "max_tokens")


def _missing_package(chain: list[BaseException]) -> str:
    """The package that was not found, where that is what ended the call, and not only what was tried on the way."""
    raised = next((link for link in chain if type(link).__module__.split(".")[0] != "litellm"), None)
    if not isinstance(raised, ImportError) or raised not in chain[:2]:
        return ""
    module = next((link.name for link in reversed(chain) if isinstance(link, ImportError) and link.name), "") or ""
    return _PACKAGES.get(module.partition(".")[0], module.partition(".")[0]) or "a package that is not installed"


def _flaw_of(request: Request) -> str:
    """What keeps a conversation from being written in another provider's format; empty for a sound one."""
    called: set[str] = set()
    for message in request.messages:
        for call in message.tool_calls or ():
            called.add(call.id)
            try:
                arguments = json.loads(call.function.arguments or "{}")
            except (ValueError, RecursionError):
                return "the tool arguments in the history are no JSON"
            if not isinstance(arguments, dict):
                return "the tool arguments in the history are no JSON object"
        if message.role == "tool" and message.tool_call_id not in called:
            return "a tool result in the history answers no call"
    if all(message.role not in ("user", "assistant", "tool") for message in request.messages):
        return "there is no message but the system's"
    return ""


# -- what a provider says ----------------------------------------------------------------------------------------------


def _said(response: Any) -> _Said:
    """What its body says, in whichever of the forms that are known."""
    try:
        body = response.json()
    except Exception:  # a text, perhaps: servers that cannot read a request say so in one
        return _Said("", _plain(response))
    try:
        return _said_in(body)
    except Exception:  # whatever the body is, it is no error of a known form
        return _Said()


def _said_in(body: Any) -> _Said:
    outer = ""
    for _ in range(_DEPTH):
        inner = _inside(body)
        if inner is None:
            break
        if isinstance(body, dict):
            outer = " ".join(str(code) for code in (body.get("code"), body.get("error_type")) if code)
        body = inner
    if not isinstance(body, dict):
        return _Said(outer, body[:_MOST_SAID] if isinstance(body, str) else "")
    details = body.get("details")
    details = [item for item in details if isinstance(item, dict)] if isinstance(details, list) else []
    codes = [body.get(key) for key in ("code", "type", "status")] + [item.get("reason") for item in details]
    codes += [
        flaw.get("quotaId") for item in details for flaw in item.get("violations") or () if isinstance(flaw, dict)
    ]
    return _Said(
        " ".join(str(code) for code in codes if isinstance(code, str | int)),
        _message(body),
        str(body.get("param") or ""),
        _status(body.get("code")),
        next(filter(None, map(_delay, details)), None),
    )


_MOST_SAID = 3000  # characters that are looked at: some echo a whole request, and these take 10 to 30 ms
_DEPTH = 6  # of errors in errors: gateways before gateways


def _inside(body: Any) -> Any:
    """What a body holds the error in; None where it is the error itself. llama.cpp behind Ollama puts a whole error
    body into the message of another; OpenRouter has the provider's beside its own; who checks requests by a schema
    lists what is wrong in them."""
    if isinstance(body, str):
        return _written_in(body)
    if isinstance(body, list):
        flaws = [item for item in body if isinstance(item, dict) and isinstance(item.get("msg"), str)]
        return "; ".join(map(_flaw, flaws)) or next(iter(body), None)
    if not isinstance(body, dict):
        return None
    for key in ("error", "upstream_error", *(() if _message(body) else ("errors",))):  # Google lists itself again
        if body.get(key):
            return body[key]
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str) and raw:
        return raw
    for key in ("message", "detail"):
        value = body.get(key)
        if isinstance(found := _written_in(value) if isinstance(value, str) else value, dict | list):
            return found
    return None


def _written_in(text: str) -> Any:
    """The JSON object that a text is; None where it is none, for all that it may begin like one."""
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(body: Mapping[str, Any]) -> str:
    texts = (body.get(key) for key in ("message", "detail", "msg", "title"))
    return next((text[:_MOST_SAID] for text in texts if isinstance(text, str) and text), "")


def _flaw(item: Mapping[str, Any]) -> str:
    """What is wrong with a part of the request, as pydantic says it."""
    where = item.get("loc")
    place = ".".join(str(part) for part in where if part != "body") if isinstance(where, list) else ""
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _plain(response: Any) -> str:
    """A body that is a text; empty for a page, or for half of something."""
    try:
        text = str(response.text).strip()
    except Exception:  # it cannot be decoded, or was never read
        return ""
    return text[:_MOST_SAID] if text[:1].isalpha() else ""


def _delay(detail: Mapping[str, Any]) -> float | None:
    """Google's word in a body for how long to wait: `36s`."""
    given = detail.get("retryDelay")
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)s", given) if isinstance(given, str) else None
    return None if found is None else float(found[1])


def _status(code: object) -> int | None:
    """The HTTP status that a code is."""
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        code = int(code[:4])
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _one_line(text: str, secrets: Collection[str]) -> str:
    """A provider's words, fit for one line of an error: no secret of ours, no control characters, not long."""
    for secret in sorted(secrets, key=len, reverse=True):  # first the longer of two that begin alike
        # As it is, and as it is written in an address or in JSON.
        for form in dict.fromkeys((secret, quote(secret, safe=""), json.dumps(secret)[1:-1])):
            if form not in text:
                continue
            is_word = len(form) < _LEAST_SECRET  # which is not to be taken out of the midst of another
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text) if is_word else text.replace(form, MASK)
    if len(text) >= _MOST_SAID - 1 or MASK in text:  # it was cut, perhaps amid one
        text = _without_beginning(text, secrets)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _REASON_LIMIT else line[: _REASON_LIMIT - 1] + "…"


def _without_beginning(text: str, secrets: Collection[str]) -> str:
    """A text that does not end in the beginning of a secret."""
    for secret in secrets:
        longest = min(len(secret) - 1, len(text))
        if longest < _LEAST_BEGINNING or secret[:_LEAST_BEGINNING] not in text[-longest:]:
            continue
        for length in range(longest, _LEAST_BEGINNING - 1, -1):
            if text.endswith(secret[:length]):
                return f"{text[:-length]}{MASK}"
    return text


# -- secrets -----------------------------------------------------------------------------------------------------------

_LEAST_SECRET = 6  # characters: a shorter one is taken out where it is a word of its own
_LEAST_WORD = 4  # and an even shorter one not at all
_LEAST_BEGINNING = 4
_SECRET_KEY = _words(
    r"key|token|secret|passw|credential|auth|cookie|header|signature|private|cert|session|bearer|jwt|extra_query"
)
# What has such a word in its name and is none.
_NO_SECRET = _words(r"max_\w*tokens|\btokens?_(limit|count)|top_k|session_name\Z|prompt_cache_key\Z")
_VERSION = re.compile(r"v\d\w{0,9}\Z")
_PLAIN = ("model", "api_version", "api-version")
# Long and without a word in it, wherever it stands: somebody's key under a name that we do not know.
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-.+/=]{20,}\Z")
_PROXY = _words(r"_proxy\Z")


def secrets_of(deployment: Deployment) -> Iterator[str]:
    """Every text of its parameters that is a secret, or may be one. Its model, its region and how it is to think, are
    none, wherever they come from: whoever reads an error needs those words."""
    params = {key: value for key, value in deployment.params.items() if not is_price(key)}
    yield from _secrets_in(params)
    for key in ("api_base", "base_url"):
        yield from _tokens_in_path(params.get(key), deployment.model)
    words = {value for key, value in deployment.params.items() if key in TUNING and isinstance(value, str)}
    yield from (text for text in deployment.secrets - words if len(text) >= _LEAST_SECRET)


def secrets_read(environ: Mapping[str, str]) -> Iterator[str]:
    """What LiteLLM, its HTTP clients and those of the clouds may have found in the environment: by a variable's name,
    and in the addresses there, of proxies too."""
    for name, value in environ.items():
        if _PROXY.search(name) and "://" not in value:
            value = f"http://{value}"
        if "://" in value:
            yield from _secrets_of_url(value)
        if _SECRET_KEY.search(name) and not _NO_SECRET.search(name):
            yield from _credentials_in(value.strip())


def secrets_sent(answer: Any) -> Iterator[str]:
    """What the request had with it that an HTTP answer came to, wherever LiteLLM had that from: what its headers and
    its query call by such a name, and the user's name and password."""
    try:
        request = answer.request
        query, login = dict(request.url.params), request.url.userinfo.decode()
    except (AttributeError, RuntimeError):  # no answer, or one without its request
        return
    for name, value in (*request.headers.items(), *query.items()):
        if _SECRET_KEY.search(name):
            yield from _credentials_in(value)
    yield from _login(login)


def _secrets_in(value: Any, *, certain: bool = False, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in _PLAIN:
                continue
            by_name = _SECRET_KEY.search(str(name)) is not None and not _NO_SECRET.search(str(name))
            yield from _secrets_in(item, certain=certain or by_name, key=str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets_in(item, certain=certain, key=key)
    elif isinstance(value, str):
        is_address = "://" in value
        if is_address:
            yield from _secrets_of_url(value)
        if certain:
            yield from _credentials_in(value.strip())
        elif not is_address and _RANDOM.match(value) and "model" not in key:
            yield value


def _credentials_in(text: str) -> Iterator[str]:
    """A credential, and what of it a provider may repeat alone: a field of a service account, one of several keys or
    cookies, what stands behind a scheme or a header's name, a user's name and password behind `Basic`."""
    if text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            yield from _secrets_in(json.loads(text))
    for line in text.splitlines():
        for separator in (": ", " "):
            scheme, _, rest = line.partition(separator)
            if len(rest := rest.strip()) >= _LEAST_WORD:
                yield rest
            if scheme.lower() == "basic":
                with contextlib.suppress(ValueError):
                    yield from _login(b64decode(rest, validate=True).decode())
    parts = _SEPARATORS.split(text)
    yield from (part for part in parts if len(part) >= _LEAST_SECRET and not part.isalpha())
    if len(text) >= _LEAST_WORD:
        yield text


_SEPARATORS = re.compile(r"""[\s,;="']+""")


def _login(credentials: str) -> Iterator[str]:
    """A user's name and password, as they stand in an address, by themselves, and as they are sent."""
    plain = unquote(credentials)
    for text in (credentials, plain, *credentials.split(":", 1), *plain.split(":", 1)):
        if len(text) >= _LEAST_WORD:
            yield text
    if plain:
        yield b64encode((plain if ":" in plain else f"{plain}:").encode()).decode()


def _secrets_of_url(url: str) -> Iterator[str]:
    """What an address holds beside the way: user, password, query, and a part of the path that is no word."""
    try:
        parts = urlsplit(url)
    except ValueError:
        yield url
        return
    yield from _login(parts.netloc.rpartition("@")[0])
    found = [value for name, value in parse_qsl(parts.query) if name not in _PLAIN]
    found += [parts.query, parts.fragment] if found else [parts.fragment]
    found += [part for part in parts.path.split("/") if len(part) >= 16 and any(char.isdigit() for char in part)]
    for text in found:
        for form in {text, unquote(text)}:
            if len(form) >= _LEAST_SECRET:
                yield form


def _tokens_in_path(address: Any, model: str) -> Iterator[str]:
    """The parts of its address's path, in which gateways have tokens, but for those that are known to be words."""
    try:
        parts = re.split("[/;=,]", urlsplit(address).path) if isinstance(address, str) else []
    except ValueError:
        return
    for part in parts:
        for form in {part, unquote(part)}:
            is_word = form in model or is_word_of_an_address(form) or _VERSION.match(form)
            if len(form) >= _LEAST_SECRET and not is_word:
                yield form


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            seconds = float(milliseconds) / 1000
        elif value is not None and value.strip()[:1].isalpha():
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        elif value is not None:
            seconds = float(value)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None

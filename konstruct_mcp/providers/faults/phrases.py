"""The phrases by which providers' errors are told apart: one regular expression for each meaning.

Data only; what follows from a phrase is decided in `classification` and `refusals`, and only where the HTTP status and
the code do not already say what has happened.
"""

from __future__ import annotations

import functools
import re


class Phrase:
    """A regular expression that matches any of its alternatives, in upper or lower case.

    It is compiled when it is first searched for: to compile all of them takes longer than any other part of a start.
    """

    def __init__(self, *alternatives: str) -> None:
        self._alternatives = alternatives

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(self._alternatives), re.IGNORECASE)

    def search(self, text: str) -> re.Match[str] | None:
        return self._pattern.search(text)

    def sub(self, replacement: str, text: str) -> str:
        return self._pattern.sub(replacement, text)


# The conversation is longer than the model's context window.
OVERFLOW = Phrase(
    r"context.?(length|window|size|limit)|prompt (is )?too long|input tokens exceed|too many (input )?tokens",
    r"exceeds? the (model's )?(maximum|available) (input )?(context|number of tokens|token)|input is too long for",
    r"exceed(s|ed)? (the )?(model('s)? )?(total )?tokens? limit|prompt (token count of \d+ )?exceeds",
    r"input token length too long|range of input length|must have less than \d+ tokens|tokens \+ \S+ must be <=",
    r"tokens_limit_reached|maximum (allowed input|prompt) length|reduce the length of the (messages|input|prompt)",
    r"prompt 超长|上下文长度",
)
# `max_tokens` is more than the model writes. Some providers name its context window in the same sentence, so this is
# looked for before OVERFLOW.
ANSWER_LIMIT = Phrase(
    r"(?<!\+ )(?<!\+ .)max(imum)?[_ ](completion[_ ]|output[_ ]|new[_ ])?tokens\W{0,3} (must|should|has to) be "
    r"(<|less|lower|smaller|at most|no more|between|in the range|within)",
    r"(valid )?range of .?max_(\w{1,30}_)?tokens\b|has a maxOutputTokens value|maximum tokens you requested exceed",
)
# The content was refused by a policy; FLAGGED is one that means so only with the statuses 403 and 424.
POLICY = Phrase(
    r"content.?(filter|policy|management policy)|safety system|usage (polic|guidelines)|SAFETY_CHECK",
    r"content exists risk|violat(es?|ed|ing) .{0,30}(guidelines|polic)|(unsafe|sensitive|inappropriate) content",
    r"new_sensitive|data_?inspection_?failed|cyber_policy|limited access to this content|blocked due to security",
    r"guardrail.{0,12}(blocked|intervened)|blocked by .{0,20}guardrail",
)
FLAGGED = Phrase(r"moderation|flagged")
# The account has no money left, whatever else the message says.
NO_MONEY = Phrase(
    r"insufficient_(\w{1,30}_)?quota|insufficient[ _](balance|credits|funds)|billing_(hard_)?limit|billing hard limit",
    r"balance is (too low|insufficient)|余额不足|额度不足|欠费|billing_not_active|arrearage|INVALID_PAYMENT",
    r"exceeded.current.quota_error|token_quota_reached|PerDayPerProject",
)
# The same, in words that also stand in the advice of providers that only limit a rate.
PERHAPS_NO_MONEY = Phrase(
    r"credit balance|payment method|payment (is )?required|requires more credits|(out of|any|all( available)?) credits",
    r"(out of|from your) (extra )?usage|spend(ing)? limit|free tier .{0,40}exhausted|package has expired",
)
# A limit of spending or usage is reached.
USED_UP = Phrase(
    r"\b(reached|exceeded|hit|over)\b.{0,40}\b(usage|spend(ing)?|billing|budget|key) limits?\b",
    r"(usage|spend(ing)?|billing|budget|key) limits? ((has|have|is|are|was|were) )?(been )?(exceeded|reached)",
    r"exceeded (your|the|its|this|a) .{0,30}\b(budget|spend)|budget[ _](has been |was |is )?exceeded|over budget",
)
# With LIMIT: a limit of so much in a time. It is free again by itself, whatever the provider advises to buy.
PER_TIME = Phrase(
    r"rate[ _-]?limit|per[ _-]?(second|minute|(sec|min)\b)|/ ?(s|sec|second|min|minute)\b|\b[RTQ]P[SMD]\b",
    r"(requests?|tokens?|calls?|queries|messages|prompts)[ _-]?per[ _-]?(hour|day)",
)
LIMIT = Phrase(r"limit|quota|exceed|reached|too many|throttl")
KEY = Phrase(r"api.?key.{0,20}(not valid|invalid|expired)|(invalid|incorrect).{0,5}api.?key|API_KEY_INVALID")
ABOUT_A_KEY = Phrase(r"api.?key")
# This request alone is above a limit: waiting does not help, and a smaller request may pass.
TOO_LARGE = Phrase(r"(request )?too large .{0,200}\b(per (min|day)|TPM)", r"\(TPM\): Limit \d+, Requested")
TOO_DEAR = Phrase(r"fewer max_tokens|can only afford")
# What the account, its region or its plan may not use.
ACCOUNT = Phrase(
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
# The account's fault where a code says so too, or where the message says nothing else; otherwise it is about two
# parameters that may not be used together.
NOT_ALLOWED = Phrase(r"not allowed to use|(operation|request) (is )?not allowed")
PERMISSION_CODE = Phrase(r"permission|forbidden|access_?denied|not_?allowed|unauthori[sz]ed")
ONLY_NOT_ALLOWED = Phrase(r"^\W*(this )?(operation|request) (is )?not allowed\W*$")
# The provider's model is broken; the request has nothing to do with it.
MODEL_DOWN = Phrase(
    r"DEGRADED function|model (has )?(crashed|been unloaded|unloaded)|failed to load model|out of memory|CUDA error",
)
# The beginning of a sentence about a model: its name and the auxiliary verb.
_MODEL = r"\bmodel:?( (id|name|named|version|identifier):?)?( +[^\s,;]+)? +((has|have|does|do|is|was) +)?"
# The provider does not have the model, or not any more.
MODEL_GONE = Phrase(
    r"model_(decommissioned|not_found|not_supported|deprecated)|invalid_model\b|decommissioned|end.of.life",
    rf"{_MODEL}(is|been|was|not) (deprecated|retired|discontinued|removed|exist|found)\b",
    rf"{_MODEL}no longer (available|offered|served|exists)",
    r"(invalid model|not a valid model|model identifier is invalid|unknown model|requested model is not)",
    r"models/\S{1,200} (is|was) not found|not a chat model|no endpoints found for\b",
    r"OperationNotSupported|does not work with the specified model|on-demand throughput",
)
# The conversation itself is wrong, for every provider: a tool result without its call, a call without its result.
MALFORMED = Phrase(
    r"tool_use.{0,80}without.{0,20}tool_result|unexpected .?tool_use_id|tool_result.{0,120}corresponding .?tool_use",
    r"role.{0,3} .?tool.{0,3} must be a response to|must be followed by tool messages|tool_call_id.{0,60}not found",
    r"tool id\b.{0,60}not found|function call turn comes",
    r"did not have response messages|function response parts|not the same number of function calls and responses",
    r"unexpected role .?tool.? after|(could not|failed to|unable to) (parse|process) .{0,20}(json|body|image)",
    r"invalid_image",
    r"duplicate tool.?(call)?.?(id|name)|tool names must be unique",
)
# Names of a request's fields. A message that begins with one is about that field, and the rest of it often quotes what
# the user or the model wrote there.
_FIELDS = (
    r"(messages|input|contents|system|tools|tool_choice|functions?|response_format|text\.format|output_(config|format)"
    r"|metadata|thinking|reasoning\w*|budget_tokens|max_\w*tokens|temperature|top_[pk]|stop\w*|toolConfig"
    r"|generation_?config|GenerateContentRequest)"
)
ABOUT_A_FIELD = Phrase(
    rf"^\W*{_FIELDS}([.\[][\w.\[\]$-]*)?['\"`]?\s*:",
    rf"^(invalid|missing)\b[^'\"`]{{0,40}}['\"`]{_FIELDS}\b",
    r"^invalid (\w+ )?schema\b",
)
FIELD_CODE = Phrase(r"invalid_function_parameters|invalid_(json_)?schema|invalid_tool")
ABOUT_THE_CONVERSATION = Phrase(
    r"^\W*(messages|input|contents|system|tools|functions)([.\[][\w.\[\]$-]*)?['\"`]?\s*(:|$)",
    r"^invalid (\w+ )?schema\b",
)
# An error's `param` that is part of the conversation. With any other, the account may still be the reason.
TEXT_PARAM = Phrase(r"^(messages|input|contents|system|tools|tool_choice|functions|response_format|text|metadata)\b")
# A quotation. It ends at the next mark of the same kind, and an escaped mark opens only an escaped quotation, so that
# many unclosed marks take no longer to search. An apostrophe within a word is none.
QUOTED = re.compile(
    r"""(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)|(?<!\\)"(?:[^"\\]|\\.)*"|\\"[^"]*"|`[^`]*`"""
    r"""|‘[^‘’]*(?:(?<=\w)’(?=\w)[^‘’]*)*’|“[^“”]*”""",
    re.DOTALL,
)
OPENING_QUOTE = re.compile(r"""(?<![\w\\])["'`‘“]|\\\"""")
# A quoted parameter name is the provider's own word.
QUOTED_NAME = re.compile(rf"[^\w]{_FIELDS}[^\w]", re.IGNORECASE)
# A message that wraps another error: as JSON, or from a model's chat template.
WRAPPED = re.compile(
    r"""^[^'"`{]*(?:b['"])?\{.*?["']message["']:\s*(["'])(?P<error>.*?)(?<!\\)\1"""
    r"""|^[^'"`{]*\btemplate: (["'])(?P<template>.*)\3\W*$""",
    re.DOTALL,
)
# The deployment does not support what is asked.
NOT_SUPPORTED = Phrase(
    r"(does|do)(n't| not) (yet |currently )?(support|allow|accept|work)|(is|are)(n't| not) (\w+ )?(supported|enabled)",
    r"not (yet |currently )?(supported|enabled|permitted|implemented)|unsupported|supports? only|only supports?",
    r"only .{0,60}\b(is|are) supported|supported (values|parameters|types|models) are|prefill|must end with a user",
    r"last message must|requires --|requires .{0,30} to be set|response_format type is unavailable|extra inputs are",
    r"unrecognized (request argument|parameter)|unknown (parameter|name|field)|no endpoints found|can handle the req",
    r"maximum (allowed )?(number of )?(output|completion) tokens|supports at most|at most \d+ (image|document)",
    r"(is|are) enabled only|cannot be disabled|incompatible with|non-streaming calls",
    r"expected last role|unknown variant|unimplemented|(chat|prompt) template|jinja|roles must alternate",
)
NOT_SUPPORTED_ON_SERVER = Phrase(
    r"requires --|is not supported - hint|does not support|failed to (load|find) .{0,20}mmproj|jinja",
    r"prefill is incompatible with|roles must alternate|failed to parse tool call arguments",
)
# The reasoning in the history is refused, which we have put there, or missing, because we no longer have it.
REASONING_REFUSED = Phrase(
    r"signature.{0,20}thinking|thought_?signature|thought signature|thinking. blocks? .{0,60}cannot be modified",
    r"expected .?(redacted_)?thinking|encrypted.content.{0,400}(verified|decrypted)|invalid_encrypted_content",
    r"reasoning_content.{0,80}(missing|must (not )?be|passed back)|missing .?reasoning_content",
    r"\bmessages\b.{0,80}property .?reasoning\w*.? is unsupported|messages\S{0,80}\.reasoning\w*: extra inputs",
    r"both content and thinking|without its required .?(reasoning|following item)",
)
# The provider refused what its own model wrote.
BAD_MODEL_OUTPUT = Phrase(r"tool_use_failed|json_validate_failed|failed_generation|output_parse_failed")
# In LiteLLM's own errors.
NO_CREDENTIALS = Phrase(r"credential|api.?key|_KEY\b|token|authenticat|log.?in")
UNKNOWN_MODEL = Phrase(r"no healthy deployments|provider not provided|no deployments available")

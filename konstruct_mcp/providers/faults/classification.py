"""Which fault a failed call is: an exception out of LiteLLM, or an error in an answer's body, becomes one `Fault`.

LiteLLM's exception classes go by words in the provider's message (a 400 that mentions "429" is a RateLimitError) and
differ between providers, so the HTTP answer itself decides: by its status, then by the code or type in its body, and by
words only where providers have no code of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.faults.connections import fault_without_answer
from konstruct_mcp.providers.faults.error_body import MOST_CHARS, ErrorBody, error_body, status_in
from konstruct_mcp.providers.faults.exceptions import chain_of, response_of
from konstruct_mcp.providers.faults.one_line import one_line
from konstruct_mcp.providers.faults.phrases import (
    ABOUT_A_FIELD,
    ABOUT_A_KEY,
    ANSWER_LIMIT,
    BAD_MODEL_OUTPUT,
    FLAGGED,
    KEY,
    MALFORMED,
    MODEL_DOWN,
    MODEL_GONE,
    NO_MONEY,
    NOT_ALLOWED,
    NOT_SUPPORTED,
    NOT_SUPPORTED_ON_SERVER,
    OVERFLOW,
    PERHAPS_NO_MONEY,
    POLICY,
    TOO_DEAR,
    TOO_LARGE,
    USED_UP,
    Phrase,
)
from konstruct_mcp.providers.faults.retry_after import retry_after
from konstruct_mcp.providers.faults.unsent import fault_of_unsent
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind


def fault_of(
    error: BaseException,
    deployment: Deployment,
    secrets: Collection[str],
    *,
    left: bool = True,
    answer: Any = None,
    request: Request | None = None,
) -> Fault:
    """The fault that an exception out of LiteLLM means for this deployment.

    Args:
        secrets: texts that are masked in what the fault says.
        left: whether a request may have left the process.
        answer: the HTTP response that came last, if one did.
        request: what was asked.
    """
    chain = list(chain_of(error))
    for link in chain:
        if isinstance(link, FaultError):
            return link.fault
    response = response_of(chain, answer)
    if response is answer is not None and answer.status_code < 300:
        # A success that LiteLLM could not read; the body may say what went wrong.
        said = error_body(answer)
        found = fault_of_body(answer.status_code, said.number or said.codes, said.message, secrets)
        return found if found.kind is not FaultKind.BAD_ANSWER else fault_without_answer(chain, deployment)
    if response is not None:
        names = {type(link).__name__ for link in chain}
        return http_fault(int(response.status_code), error_body(response), names, response.headers, secrets)
    if not left and not any(type(link).__module__.startswith(_UNSEEN) for link in chain):
        return fault_of_unsent(chain, request)
    return fault_without_answer(chain, deployment)


# The library that Google's oldest models are asked with: whether its requests have left cannot be seen.
_UNSEEN = ("grpc", "google.api_core")


def fault_of_body(status: int, code: object, message: str, secrets: Collection[str]) -> Fault:
    """The fault of an error in the body of a response whose HTTP status is no error.

    A gateway has already sent status 200 when the provider behind it fails.

    Args:
        status: of the response.
        code: of the error in the body, a number or a word.
    """
    code, message = code if isinstance(code, int) else str(code)[:MOST_CHARS], message[:MOST_CHARS]
    said = ErrorBody(str(code), message)
    told = status_in(code)
    number = told or next((number for words, number in _STATUS_OF_CODE if words.search(said.codes)), None)
    if number is None and said.is_about_a_rate:
        number = 429
    if number is None and any(map(said.says, (OVERFLOW, POLICY, NO_MONEY, PERHAPS_NO_MONEY, KEY))):
        number = 400
    number = number or next((number for words, number in _STATUS_OF_MESSAGE if said.says(words)), None)
    if number is None:
        # A redirect is not followed, so no model has run.
        ran = False if 300 <= status < 400 else None
        return Fault(
            FaultKind.BAD_ANSWER, f"HTTP {status} with an error in it" if message else f"HTTP {status}", ran=ran
        )
    fault = http_fault(number, said, (), {}, secrets)
    only_said = fault.only_said or told is None
    # It had begun to answer when it failed, unless it only says that it is busy.
    ran = fault.ran if fault.kind is not FaultKind.SERVER_ERROR else number not in _OVERLOADED
    return replace(fault, detail=f"HTTP {status} with an error {number} in it", only_said=only_said, ran=ran)


def with_billing(fault: Fault, deployment: Deployment) -> Fault:
    """The same fault, with what is known of how its provider bills it.

    By their documentation, Azure charges for what its filters stop and for what is too long, and OpenRouter does not
    charge for an answer that ends in an error.
    """
    provider = deployment.model.partition("/")[0]
    if provider in ("azure", "azure_ai") and fault.kind in (FaultKind.CONTENT_POLICY, FaultKind.CONTEXT_OVERFLOW):
        return replace(fault, ran=True)
    if provider == "openrouter" and fault.kind is FaultKind.SERVER_ERROR:
        return replace(fault, ran=False)
    return fault


# The HTTP status that a code in words stands for.
_STATUS_OF_CODE = (
    (Phrase(r"rate.?limit|too_many_requests|throttl|resource_?exhausted"), 429),
    (Phrase(r"quota|insufficient|payment"), 402),
    (Phrase(r"overloaded|unavailable|bad_gateway"), 503),
    (Phrase(r"timeout"), 504),
    (Phrase(r"server_?error|internal|api_error"), 500),
    (Phrase(r"auth|permission|api_key"), 401),
    (Phrase(r"not_?found"), 404),
    (Phrase(r"invalid|context_length|content_|unsupported|bad_?request"), 400),
)


# The HTTP status that a message stands for, where the code is the provider's own number, or missing.
_STATUS_OF_MESSAGE = (
    (Phrase(r"rate.?limit|too many requests|throttl|resource.?exhausted|(usage|request) limit|token limit|quota"), 429),
    (Phrase(r"overload|unavailable|at capacity|over capacity|no capacity|try again later|server (is )?busy"), 503),
    (Phrase(r"timed? ?out"), 504),
    (Phrase(r"(server|internal|upstream) error"), 500),
    (Phrase(r"login fail|unauthori[sz]ed|authenticat|invalid token"), 401),
    (MODEL_GONE, 404),
)


# 4xx that are not about the request. Groq answers 498 where a service tier is full, Bedrock 424 where a model failed.
_BUSY = (420, 498)
_BROKEN = (409, 421, 423, 424, 425, 499)
_ANY_REASON = (400, 403, 422, 500, 501)  # with these, some providers report a rate limit too
_LATE = (408, 524)  # 524 is Cloudflare's after 100 s; another try takes as long
# A gateway has lost the connection to the provider, whose model may have worked on and is billed. A server that says
# itself that it has failed (500) or is busy (503, 529) bills nothing, as far as providers say.
_LOST_SIGHT = (499, 502, 504, 520)
_OVERLOADED = (503, 529)
_GUARDRAIL = 446  # Portkey's and WSO2's, where a guardrail of the operator's stopped the request


# These statuses are about the account or its limits by themselves. With any other, only the message says so, and it may
# quote the request.
_SPEAK_FOR_THEMSELVES = (401, 402, 407, 410, 429)


def http_fault(
    status: int, said: ErrorBody, litellm_says: Collection[str], headers: Mapping[str, str], secrets: Collection[str]
) -> Fault:
    """The fault of an HTTP response.

    Args:
        litellm_says: the names of LiteLLM's exception classes for it.
        headers: of the response, with lower-case names.
    """
    if status < 400:
        return fault_of_body(status, said.number or said.codes, said.message, secrets)
    found = _fault_of_status(status, said, litellm_says, headers)
    reason = (one_line(said.message, secrets) or found.detail) if found.reason else ""
    only_said = status not in _SPEAK_FOR_THEMSELVES or said.says(TOO_LARGE) or said.says(TOO_DEAR)
    return replace(found, reason=reason, only_said=only_said)


def _fault_of_status(status: int, said: ErrorBody, litellm_says: Collection[str], headers: Mapping[str, str]) -> Fault:
    """The fault of a status of 400 or more; its reason is still the provider's message as it came."""
    detail = f"HTTP {status}"
    retry_after_s = said.wait_s if (told := retry_after(headers)) is None else told
    reason = said.message or detail
    if status == 407:
        return Fault(FaultKind.CONNECTION, detail, sent=False, lasting=True)
    if status in (400, 422) and ANSWER_LIMIT.search(said.message):
        return Fault(FaultKind.UNFIT, detail, reason)
    if status in (400, 422) and (said.mentions(MALFORMED) or said.is_about_a_field):
        return _refusal_of_a_field(detail, said, reason)
    if status == _GUARDRAIL or (status in (403, 424) and (said.says(POLICY) or said.says(FLAGGED))):
        return Fault(FaultKind.CONTENT_POLICY, detail)
    if status in (400, 413, 429) and said.says(TOO_LARGE):
        return Fault(FaultKind.RATE_LIMITED, detail, lasting=True)
    comes_back = said.is_about_a_rate or (status == 429 and retry_after_s is not None)  # free again by itself
    if (
        (status == 402 and retry_after_s is None)
        or (status in (400, 401, 403, 429) and said.says(NO_MONEY))
        or (status in (400, 401, 403, 429) and not comes_back and said.says(PERHAPS_NO_MONEY))
        or (status in (400, 403, 412, 429) and not comes_back and said.says(USED_UP))
    ):
        return Fault(FaultKind.QUOTA, detail, lasting=True)
    if status in (402, 429, *_BUSY) or (status in _ANY_REASON and said.is_about_a_rate):
        return Fault(FaultKind.RATE_LIMITED, detail, retry_after_s=retry_after_s)
    if status == 403 and (said.is_about_the_account or said.says(NOT_ALLOWED)) and not said.says(ABOUT_A_KEY):
        return Fault(FaultKind.ACCOUNT, detail, lasting=True)
    if status in (401, 403) or (status == 400 and said.says(KEY)):
        return Fault(FaultKind.AUTH, detail)
    if status in _LATE:
        return Fault(FaultKind.TIMEOUT, detail)
    if status in (404, 410):
        is_gone = said.says(MODEL_GONE) or "NOT_FOUND" in said.codes.split()
        if said.is_about_the_account and not is_gone:
            return Fault(FaultKind.ACCOUNT, detail, lasting=True)
        if said.mentions(NOT_SUPPORTED) and not is_gone:
            return Fault(FaultKind.UNFIT, detail, reason)
        return Fault(FaultKind.NOT_FOUND, detail, lasting=status == 410)
    if status in (500, 501) and not said.says(MODEL_DOWN):
        if said.says(OVERFLOW):
            return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
        if said.says(NOT_SUPPORTED_ON_SERVER):
            return Fault(FaultKind.UNFIT, detail, reason)
    if status in _BROKEN or status >= 500:
        return Fault(FaultKind.SERVER_ERROR, detail, retry_after_s=retry_after_s, ran=status in _LOST_SIGHT)
    return _refusal(detail, said, reason, litellm_says)


def _refusal(detail: str, said: ErrorBody, reason: str, litellm_says: Collection[str]) -> Fault:
    """The fault of a status that blames the request; the body may say that something else is to blame."""
    if "ContextWindowExceededError" in litellm_says or said.says(OVERFLOW):
        return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
    if said.says(MODEL_DOWN):
        return Fault(FaultKind.SERVER_ERROR, detail)
    if said.is_about_the_account:
        return Fault(FaultKind.ACCOUNT, detail, lasting=True)
    if "ContentPolicyViolationError" in litellm_says or "invalid_prompt" in said.codes or said.says(POLICY):
        return Fault(FaultKind.CONTENT_POLICY, detail)
    if said.says(MODEL_GONE):
        return Fault(FaultKind.NOT_FOUND, detail, lasting=True)
    if said.says(BAD_MODEL_OUTPUT):
        return Fault(FaultKind.BAD_ANSWER, detail)
    return _refusal_of_a_field(detail, said, reason)


def _refusal_of_a_field(detail: str, said: ErrorBody, reason: str) -> Fault:
    """The fault of a message about the request itself: the request is wrong, or not supported by this deployment."""
    if BAD_MODEL_OUTPUT.search(said.codes):
        return Fault(FaultKind.BAD_ANSWER, detail)
    if said.mentions(MALFORMED):
        return Fault(FaultKind.BAD_REQUEST, detail, reason)
    if replace(said, message=ABOUT_A_FIELD.sub("", said.message)).says(OVERFLOW):
        return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
    if said.mentions(NOT_SUPPORTED):
        return Fault(FaultKind.UNFIT, detail, reason)
    return Fault(FaultKind.REFUSED, detail, reason)

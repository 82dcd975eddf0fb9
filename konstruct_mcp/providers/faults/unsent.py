"""Faults of calls that were never sent, because LiteLLM could not make a request of them.

LiteLLM raises the same errors for what it refuses itself as for what a provider has refused; only whether anything left
the process tells the two apart.
"""

from __future__ import annotations

import json

from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.faults.exceptions import is_unsupported, litellms_message
from konstruct_mcp.providers.faults.phrases import NO_CREDENTIALS, UNKNOWN_MODEL
from konstruct_mcp.providers.refused_parameters import named_in
from konstruct_mcp.routing.outcomes import Fault, FaultKind

# The top-level module that is missing → the package that has it.
_PACKAGES = {
    "boto3": "boto3",
    "botocore": "boto3",
    "google": "google-auth",
    "vertexai": "google-cloud-aiplatform",
    "azure": "azure-identity",
    "databricks": "databricks-sdk",
}


def fault_of_unsent(chain: list[BaseException], request: Request | None) -> Fault:
    """The fault of a call that LiteLLM refused before anything was sent.

    Args:
        chain: the exception and those that it was raised from.
        request: what was asked, if it was a completion.
    """
    said = str(getattr(chain[0], "message", chain[0]))
    if is_unsupported(chain[0]):
        passed = () if request is None else [name for name in request.model_fields_set if name in _MEANING]
        names = named_in(litellms_message(chain[0]), passed) or ("a parameter of the request",)
        return Fault(FaultKind.UNFIT, reason=f"it does not take {' and '.join(names)}", sent=False)
    if package := _missing_package(chain):
        return Fault(FaultKind.UNMADE, reason=f"needs {package}", sent=False)
    if UNKNOWN_MODEL.search(said):
        return Fault(FaultKind.UNMADE, reason="LiteLLM knows no such model; check its name and settings", sent=False)
    if request is not None and (flaw := _flaw_of(request)):
        return Fault(FaultKind.REFUSED, reason=flaw, sent=False)
    if any(NO_CREDENTIALS.search(str(link)) for link in chain):
        return Fault(FaultKind.UNMADE, reason="its key or its credentials are missing", sent=False)
    return Fault(FaultKind.UNMADE, reason="LiteLLM cannot make its request; check its settings", sent=False)


# The parameters that a note names; any other is "a parameter of the request".
_MEANING = ("tools", "tool_choice", "response_format", "max_tokens")


def _missing_package(chain: list[BaseException]) -> str:
    """The package whose absence ended the call; empty where a missing one was only tried on the way, or none was."""
    raised = next((link for link in chain if type(link).__module__.split(".")[0] != "litellm"), None)
    if not isinstance(raised, ImportError) or raised not in chain[:2]:
        return ""
    module = next((link.name for link in reversed(chain) if isinstance(link, ImportError) and link.name), "") or ""
    return _PACKAGES.get(module.partition(".")[0], module.partition(".")[0]) or "a package that is not installed"


def _flaw_of(request: Request) -> str:
    """Why the conversation cannot be translated into another provider's format; empty where it can."""
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

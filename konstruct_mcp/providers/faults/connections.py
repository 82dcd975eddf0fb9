"""Faults of calls that got no readable HTTP answer: time-outs, broken connections, refused proxies."""

from __future__ import annotations

import socket
import ssl

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.routing.outcomes import Fault, FaultKind


def fault_without_answer(chain: list[BaseException], deployment: Deployment) -> Fault:
    """The fault of a call without a readable HTTP answer.

    Args:
        chain: the exception and those that it was raised from.
    """
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
    """Whether no connection was ever made, so that nothing can have reached the provider."""
    import aiohttp
    import httpx

    own = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, socket.gaierror, ConnectionRefusedError)
    if any(isinstance(link, own) for link in chain):
        return True
    # LiteLLM turns aiohttp's errors into httpx's, and one that breaks later into a ConnectError too.
    is_aiohttps = any(isinstance(link, aiohttp.ClientError) for link in chain)
    return not is_aiohttps and any(isinstance(link, httpx.ConnectError | httpx.ConnectTimeout) for link in chain)


_BREAKS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLError, "its certificate is not trusted"),
    (socket.gaierror, "host not found"),
    (ConnectionRefusedError, "refused"),
)

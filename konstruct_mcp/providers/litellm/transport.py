"""How a provider is reached, where the config says more than its address: certificates, proxy, query parameters."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_VERIFY = ("ssl_verify", "verify")
_CERTIFICATE = ("ssl_certificate", "client_certificate", "client_cert", "cert")
_KEY = ("ssl_key", "client_key")
_QUERY = "extra_query"  # the name that OpenAI's client has for it
_PROXY = ("proxy", "proxy_url", "https_proxy", "http_proxy", "proxies")
# Keys of litellm_params that are settings of the connection and no part of a request's body.
TRANSPORT = frozenset((*_VERIFY, *_CERTIFICATE, *_KEY, *_PROXY, _QUERY))


@dataclass(frozen=True, slots=True)
class Transport:
    """The settings of a connection that are not the ordinary ones.

    Attributes:
        verify: whether the provider's certificate is checked; or the file of those that are trusted.
        certificate: the file of our own certificate; it holds the key too if `key` is None.
        key: the file of its key.
        proxy: the address of the proxy, which may hold a password.
        query: what is added to the address of each request; it may hold a key.
    """

    verify: bool | str = True
    certificate: str | None = None
    key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Transport | None:
        """Those in litellm_params; None where there are none."""
        if TRANSPORT.isdisjoint(params):
            return None

        def given(names: tuple[str, ...]) -> Any:
            return next((params[name] for name in names if params.get(name) is not None), None)

        certificate, key, proxy = given(_CERTIFICATE), given(_KEY), given(_PROXY)
        if isinstance(certificate, list | tuple) and certificate:
            certificate, key = certificate[0], certificate[1] if len(certificate) > 1 else key
        if isinstance(proxy, Mapping):  # by scheme, as `requests` has it
            proxy = next(
                (proxy[scheme] for scheme in ("https", "https://", "all://", "http", "http://") if scheme in proxy),
                None,
            )
        return cls(
            verify=_verify(given(_VERIFY)),
            certificate=None if certificate is None else str(certificate),
            key=None if key is None else str(key),
            proxy=None if proxy is None else str(proxy),
            query=_query(params.get(_QUERY)),
        )

    def context(self) -> ssl.SSLContext:
        """The TLS context.

        Raises:
            OSError: a file cannot be read or holds something else; `ssl.SSLError` is one.
        """
        context = ssl.create_default_context(cafile=self.verify if isinstance(self.verify, str) else None)
        if self.verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


def _query(given: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, Mapping):
        return ()
    texts = {True: "true", False: "false"}
    return tuple(
        (str(key), texts[value] if isinstance(value, bool) else str(value))
        for key, value in given.items()
        if value is not None
    )


def _verify(given: Any) -> bool | str:
    if isinstance(given, str):
        word = given.strip().lower()
        return False if word in ("false", "0", "no") else True if word in ("", "true", "1", "yes") else given.strip()
    return given is not False

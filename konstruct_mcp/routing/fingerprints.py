"""A deployment's fingerprint: the key under which its health and its limits are kept.

Two entries of a config that call the same model with the same parameters have one fingerprint, and so one health: a
dead Ollama behind two groups is one dead Ollama. A fingerprint shows no secret, as it is a hash of all parameters
together, and it is the same in every process and after every reload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any


def fingerprint(params: Mapping[str, Any]) -> str:
    """The fingerprint of a deployment with these parameters, whatever the order of their keys."""
    return hashlib.sha256(repr(_canonical(params)).encode(errors="surrogatepass")).hexdigest()


def _canonical(value: Any) -> Any:
    """The same value in one form of several that are equal, which `repr` writes in one way."""
    if isinstance(value, Mapping):
        return "mapping", sorted(((key, _canonical(one)) for key, one in value.items()), key=repr)
    if isinstance(value, list | tuple):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

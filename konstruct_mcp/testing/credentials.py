"""A Google service account whose tokens come from a fake provider."""

from __future__ import annotations

import functools
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def service_account(token_uri: str) -> str:
    """The file of an account, whose tokens come from `token_uri`."""
    account = {"type": "service_account", "project_id": "fake", "client_email": "fake@fake.iam.gserviceaccount.com"}
    return json.dumps({**account, "private_key": _private_key(), "private_key_id": "fake", "token_uri": token_uri})


@functools.cache
def _private_key() -> str:
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )

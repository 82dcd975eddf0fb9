"""Packages that a deployment needs and that konstruct-mcp does not install by itself."""

from __future__ import annotations

import importlib.util

from konstruct_mcp.core.errors import install_advice

_EXTRAS = {"boto3": "bedrock", "google-auth": "vertex", "azure-identity": "azure"}
_MODULES = {"google-auth": "google.auth", "azure-identity": "azure.identity"}


def installed(package: str) -> bool:
    """Whether a package can be imported. It is looked for, not imported."""
    try:
        return importlib.util.find_spec(_MODULES.get(package, package)) is not None
    except (ImportError, ValueError):  # its parent package is not there either
        return False


def needs_package(package: str) -> str:
    """The line that says that a package is missing, and how to install it."""
    extra = _EXTRAS.get(package)
    return (
        f"needs {package}: {install_advice(extra) if extra else f'uv pip install {package}, or pip install {package}'}"
    )

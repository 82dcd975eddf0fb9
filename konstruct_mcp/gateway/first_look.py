"""What there is to make a first config of: keys, and servers on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from konstruct_mcp.config import embedded
from konstruct_mcp.config.environment import REFERENCE, is_url, value_of
from konstruct_mcp.config.first_config import CLOUDS, Cloud, Local
from konstruct_mcp.config.secret_files import WithFiles
from konstruct_mcp.core.errors import EmbeddedError
from konstruct_mcp.providers.local_servers import look_at_ollama, look_at_openais

# Where LM Studio and llama.cpp's server listen unless they are told another port; the variables are LiteLLM's.
_SERVERS = (
    ("LM Studio", "lm_studio", "LM_STUDIO_API_BASE", "http://localhost:1234/v1"),
    ("llama.cpp", "openai", "LLAMAFILE_API_BASE", "http://localhost:8080/v1"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is.

    Attributes:
        clouds: the providers of which a key is set, in the environment or the keychain.
        locals: the servers on this machine that have a chat model.
        embedded: whether the embedded model can be served.
    """

    clouds: tuple[Cloud, ...]
    locals: tuple[Local, ...]
    embedded: bool


async def find(environ: Mapping[str, str]) -> Found:
    """Look, for two seconds at most. Nothing is sent but the question which models there are."""
    known = WithFiles(environ, None)
    clouds = tuple(cloud for cloud in CLOUDS if value_of(cloud.variable, known) is not None)
    found: dict[str, Local] = {}

    async def look(title: str, provider: str, variable: str, usual: str) -> None:
        base = (environ.get(variable, "").strip() or usual).rstrip("/")
        if is_url(base) and (models := await look_at_openais(base)):
            found[title] = Local(title, provider, models, base)

    async def ollama() -> None:
        base = value_of("OLLAMA_BASE_URL", known)
        seen = await look_at_ollama(base) if base is not None and is_url(base) else None
        if seen is not None and seen.models:
            found["Ollama"] = Local("Ollama", "ollama", seen.models, f"{REFERENCE}OLLAMA_BASE_URL")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ollama)
        for server in _SERVERS:
            tasks.start_soon(look, *server)
    ordered = tuple(found[title] for title in ("Ollama", *(title for title, *_ in _SERVERS)) if title in found)
    return Found(clouds, ordered, _can_embed(environ))


def _can_embed(environ: Mapping[str, str]) -> bool:
    try:
        embedded.find_model(environ)
    except EmbeddedError:
        return False
    return True

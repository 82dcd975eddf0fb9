"""`attach` and `detach`: the entry of this server in a client's own file.

`commands` is what the user meets; `clients` the table of clients; `server` what they are to start; `change` what
becomes of a file, each edit verified by parsing what it made; `files` reads and writes them; `json_text` and
`toml_text` edit one format each, as text.
"""

from konstruct_mcp.cli.attach.commands import attach, detach

__all__ = ["attach", "detach"]

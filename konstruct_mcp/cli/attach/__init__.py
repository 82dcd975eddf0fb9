"""`attach` and `detach`: the entry of this server in a client's own file.

`commands` is what the user meets; `clients` the table of clients; `server` what they are to start; `change` what
becomes of a file, each edit verified by parsing what it made; `files` reads and writes them; `json_text`,
`toml_text` and `yaml_text` edit one format each, as text; `bytecode` has the first start wait for nothing.
"""

from konstruct_mcp.cli.attach.commands import attach, detach

__all__ = ["attach", "detach"]

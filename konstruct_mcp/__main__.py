"""`python -m konstruct_mcp` is `konstruct-mcp`."""

from .cli import main

main()

"""`python -m konstruct_mcp` is `konstruct-mcp`."""

from konstruct_mcp.cli.main import main

main()

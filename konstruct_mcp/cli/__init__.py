"""The command `konstruct-mcp`."""

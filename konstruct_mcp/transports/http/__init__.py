"""MCP over streamable HTTP, to many verified clients at once."""

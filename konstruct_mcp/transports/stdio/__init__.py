"""MCP over stdin and stdout: one message on each line, one client for each process."""

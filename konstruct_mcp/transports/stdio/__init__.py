"""MCP over stdin and stdout: one message on each line, one client for each process.

serve             puts the others together
pipes, jsonrpc    lines from and to the pipes; lines into messages and back
inbox, outbox     what the client sends, and what it has yet to get
"""

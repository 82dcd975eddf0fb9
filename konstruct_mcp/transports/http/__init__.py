"""MCP over streamable HTTP, to many verified clients at once.

serve         the process: it listens, and ends without losing a call
app           what answers a request: probes, checks, authentication, MCP
doors         what is checked of each request before MCP sees it
connections   what is bounded of each connection
probes        /healthz and /readyz
"""

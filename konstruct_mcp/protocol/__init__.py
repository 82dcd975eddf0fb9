"""The Model Context Protocol: tools, resources and notices, in words for what the gateway does."""

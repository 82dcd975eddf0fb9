"""The embedded model: a llama.cpp server in a child process, asked like any other OpenAI-compatible server."""

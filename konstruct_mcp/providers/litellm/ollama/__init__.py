"""Ollama's own API, `/api/chat`.

Its OpenAI-compatible endpoint ignores `num_ctx`, `keep_alive`, `think` and most options, and cuts a prompt that is too
long without a word. So Ollama is asked through its own API. The facts here are those of Ollama 0.9.3, which were tried,
and those of newer versions, which were read in its source. This package knows neither LiteLLM nor HTTP.

requests, prompt_length, servers, answers    what it is sent, how long a prompt is, who is asked, what comes back
"""

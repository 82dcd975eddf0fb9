"""A provider's own answer, as it came before LiteLLM: its text and calls, its end, its counts, its size."""

"""A provider's own answer, before LiteLLM has changed it: what it says, why it ended, what it counted, how large it
is."""

"""Changes to LiteLLM itself: functions of it, and of its HTTP clients, that are wrapped once for a process.

Each changes something that LiteLLM has no setting for. The rules:

- A patch holds for our own calls alone, by the context variables of `provider_call`; whoever else uses LiteLLM in this
  process sees no difference. HTTP clients are the exception: all share them.
- Each patch's docstring says what it changes and why, which functions it wraps (`Wraps:`), and which test fails where a
  new version of LiteLLM has made it wrong (`Noticed by:`). A wrapped function that is gone fails at start, in one line.
- `docs/upgrading-litellm.md` lists all of them.
"""

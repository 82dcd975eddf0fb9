"""The only package that knows LiteLLM: the engine, the requests it is given, the responses it gives."""

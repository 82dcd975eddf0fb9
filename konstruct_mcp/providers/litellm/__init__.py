"""The only package that knows LiteLLM: its engine, the requests that it is given, the responses that it gives.

A request, in the order in which a call reads them:
profiles/                                    settled once for a deployment: its API, its limits, how it thinks
requests, formats/, prepared                 what LiteLLM is called with for one deployment
try_parameters, outgoing, provider_call      one try: its parameters, the request as it goes out, its HTTP exchange
transport, pools, logins, response_limits    how a provider is reached, and how much is read of it
responses, answers/, reasoning/, notes       what comes back
places                                       where in settings and bodies something stands

LiteLLM itself:
set_up, loader, engine, router_entries       set up, loaded in a thread, one Router with a group for each deployment
warm_up, patches/                            what is done once for a process
ollama/, ollama_provider                     Ollama's own API, as a provider of LiteLLM's
"""

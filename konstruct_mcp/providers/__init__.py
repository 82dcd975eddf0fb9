"""How a deployment is asked, what its failures mean, what a call can cost and has cost.

client, tried                         the one way to ask, `ProviderClient`, and what comes of it
litellm/                              the only package that imports LiteLLM
embedded/                             the embedded model's process
faults/, refused_parameters           what a failure means, and what a deployment has refused
local_servers                         which models the servers on this machine have
prices, quotes, costs, model_facts    prices, the most that a call can cost, what it has cost, what routing has to know
"""

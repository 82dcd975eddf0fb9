"""`Konstruct`, and one completion from top to bottom.

konstruct                     the public face
call                          one completion: read this first
caller                        who asks, and what follows from it: the one place that decides
account, budget_refusals      what one call costs, and why a budget does not afford it
reload, ollama_look           the config in use, which may change, and what the built-in one goes by
first_look                    what there is to make a first config of
views, checks, models         what callers and operators are shown
events, gauges                what hooks hear of, and how things stand
"""

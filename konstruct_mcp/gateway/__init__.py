"""`Konstruct`, and one completion from top to bottom.

konstruct                     the public face
call                          one completion: read this first
caller                        who asks, and what follows from it: the one place that decides
account, budget_refusals      what one call costs, and why a budget does not afford it
reload                        the config in use, which may change
views, checks, models         what callers and operators are shown
events, gauges                what hooks hear of, and how things stand
"""

"""`Konstruct`, and one completion from top to bottom.

konstruct                     the public face
call                          one completion: read this first
caller                        who asks, and what follows from it: the one place that decides
account, budget_refusals      what one call costs, and why a budget does not afford it
files/                        the files that a call names
threads, thread_stores        conversations that are kept, to be continued
tenant_limits                 what a tenant has used of its limits
reload, ollama_look           the config in use, which may change, and what the built-in one goes by
first_look                    what there is to make a first config of
identity, sharing             keys and tenants of the database, and what is shared with other servers
views, checks, models         what callers and operators are shown
offers                        who may ask for what, so that those whom a change concerns are told
events, gauges                what hooks hear of, and how things stand
"""

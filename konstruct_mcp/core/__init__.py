"""Values and plain helpers that every package may use.

requests, messages, validation, schema_sizes, sizes    what is asked for, checked once
effort                                                 how hard a model is to think: the levels, and the nearest
results, spending, budgets, money                      what comes back, what it costs, what a tenant may spend
errors                                                 every error that a user can meet, in one tree
events                                                 what metrics and traces are made of
fairness, threads, shares                              who goes next, what runs beside the event loop, a cache in shares
text, jsontext, jsonwriting, files, secrets            helpers
"""

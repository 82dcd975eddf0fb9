"""Values and plain helpers that every package may use.

requests, messages, validation, schema_sizes, sizes    what is asked for, checked once
effort                                                 how hard a model is to think: the levels, and the nearest
results, spending, budgets, money                      what comes back, what it costs, what a tenant may spend
response_models                                        an answer in the form of a pydantic model
errors                                                 every error that a user can meet, in one tree
events, audit                                          what metrics and traces are made of, and the audit log
identity, request_context                              tenants and keys, and whose request a line of the log is of
fairness, threads, shares                              who goes next, what runs beside the event loop, a cache in shares
sharing                                                what several servers share
text, jsontext, jsonwriting, files, secrets            helpers
file_names                                             names of files that are never sent to a model
"""

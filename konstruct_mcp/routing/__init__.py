"""Which deployment is asked next, and how well each one is. Pure: no I/O, no asyncio, no clock but the given one.

walk, walk_errors            one request's way through its deployments, and the error where none of them answers
routes, strategies, facts    the deployments of a config, which of several equal ones is asked, what each can do
health, limits               what outlives a call: cooldowns and probes; requests and tokens of the last minute
outcomes                     how a try went: `Answer`, or a `Fault` of a kind
"""

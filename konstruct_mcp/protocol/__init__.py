"""The Model Context Protocol: words for what the gateway does.

server                             binds the handlers to the SDK
tokens                             who makes each request
calls                              requests under way, by which one is cancelled at any server
tools, tool_schemas, progress      the two tools, how they are listed, reports of progress
clients, cuts                      what each client shows of a result, and how a longer answer is given
resources, kept_answers            what can be read
instructions, notices, texts       what assistants are told, of changes too, and values as texts
"""

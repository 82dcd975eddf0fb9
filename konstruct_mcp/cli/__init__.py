"""The command `konstruct-mcp`. Each command has the module of its name; `usage` has `budgets` too.

main, opening, output, logs    the group of commands, and what they share
completion                     what the shell completes
page, charts                   the page of `usage --html`
"""

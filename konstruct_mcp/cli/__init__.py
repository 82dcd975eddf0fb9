"""The command `konstruct-mcp`. Each command has the module of its name; `usage` has `budgets` too.

main, opening, output, logs    the group of commands, and what they share
completion, piped              what the shell completes, and what is piped into a command
export                         the rows of calls as a file, for `ledger export`
watching                       what of a running server is watched: metrics, traces, the audit log
page, charts                   the page of `usage --html`
"""

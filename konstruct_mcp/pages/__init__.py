"""HTML that is shown to people: the page of `usage --html`, and what the operators' page has of it.

document   one look, tables, a content security policy
charts     plotly's charts of a usage report
usage      a usage report
"""

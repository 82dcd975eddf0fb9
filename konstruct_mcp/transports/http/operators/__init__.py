"""The page for operators at `/`: usage, budgets, keys, tenants and deployments, behind an operator's token.

routes   logging in and out, and what is shown to whom
page     what is shown, as HTML
"""

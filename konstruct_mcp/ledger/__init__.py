"""Every call on a tenant's account: rows, budgets, the spool. The only package that knows SQLAlchemy."""

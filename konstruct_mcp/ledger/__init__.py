"""Every call on a tenant's account. Stands on core alone; the only package that knows SQLAlchemy.

ledger                                  the face: record a call, reserve its cost, read sums
writer, commands, backlog, notices      the thread that writes, what it is sent, what waits for it, what it says
directory, keys, accounts               access keys, and tenants that no config names
spool                                   rows on the disk while the database cannot be written
store, calls, reservations              what is done in one transaction
transactions                            how: statement by statement, or all that waits in one round trip
schema, statements, databases           tables, SQL, and what differs between SQLite and PostgreSQL
migrations/                             from the tables of older versions
"""

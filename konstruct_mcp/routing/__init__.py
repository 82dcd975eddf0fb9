"""Which deployment is asked next, and what is known of each one's health. Pure: no I/O, no asyncio, no clock of
its own.
"""

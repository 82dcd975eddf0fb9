"""Which deployment is asked next, and how well each one is. Pure: no I/O, no asyncio, no clock but the given one."""

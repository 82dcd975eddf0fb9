"""What several servers share and what may be lost, in Valkey or Redis. The only package that knows redis.

state                  all of it, as the gateway uses it: read this first
connection             commands, none of which a call waits for longer than a tenth of a second
look                   whether servers can use it, for who is none
broadcast, values      short messages, and values for a while
cooldowns, limits      the health of deployments, and what is used of them, over all servers

Whatever is read may have been written by another program: it is parsed where it comes in.
"""

"""The only fake of the test suite: `konstruct_mcp.testing`, which users' tests have too.

The rule: tests fake the network at this edge and nowhere else.
"""

from konstruct_mcp.testing import *  # noqa: F403  all of its public face, under the name that tests know it by

NO_HOST = "http://" + ".".join(["longer-than-255-characters"] * 10)  # so that no name server is asked

"""How a deployment is asked: the client that calls it, what its failures mean, what a call can cost."""

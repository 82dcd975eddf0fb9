"""How requests reach the protocol and answers leave it: lines on stdin and stdout."""

"""`Konstruct`, and one completion from top to bottom: who asks, whether they may, routing, account, answer."""

"""What several servers share and what may be lost, in Valkey or Redis. The only package that knows redis."""

"""Who asks over HTTP: each request's key or access token, verified before MCP sees anything of it.

authenticator   from a token to the caller that it stands for
access_tokens   what an authorization server has signed (JWT)
signing_keys    its public keys (JWKS), fetched, kept and changed
doors           401, 403 and 503 as RFC 6750 has them, and the metadata of RFC 9728
"""

"""Bearer tokens of an issuer (JWT): signatures by its published keys, claims to a principal."""

"""The MANO hand model in JAX."""

"""Decoupled Iterative Refinement of two interacting hands, in JAX."""

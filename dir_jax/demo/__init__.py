"""A page to try photographs on: `python -m dir_jax.demo`."""

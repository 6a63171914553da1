"""Parts of `python -m dir_jax.benchmark`: what is timed, how, and beside what."""

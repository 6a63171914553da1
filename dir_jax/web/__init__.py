"""The local page of `python -m dir_jax.serve`: drop a photo, drag a box, see both hands."""

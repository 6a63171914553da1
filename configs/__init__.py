"""Training recipes: one small file each, read with `--config configs/NAME.py`."""

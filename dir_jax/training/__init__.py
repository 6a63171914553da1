"""The training run: everything between a recipe and a work folder with its results."""

"""Trains a set of recipes with several seeds and compares them as the paper's tables do."""

"""The open hand: a freely licensed pair of hands in MANO's array names and shapes (not MANO)."""

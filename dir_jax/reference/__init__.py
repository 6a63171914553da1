"""Running a user's own checkout of the PyTorch code beside ours; the only part that needs torch."""

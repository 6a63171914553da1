"""Numbers that define DIR's inputs and outputs; every other module takes them from here."""

LENGTH_SCALE = 0.15
"""Metres that the network treats as one: lengths in losses, embeddings and the wrist offset."""

IMAGE_SIZE = 256
"""Side of the square input crop, pixels."""

MAP_SIZE = 32
"""Side of the segmentation and dense-correspondence maps."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per-channel RGB statistics (of values in [0, 1]) that the encoder's weights expect."""

SEGMENTATION_CLASSES = ("background", "right", "left")
"""Class order of the released checkpoint: in the released masks class 1 is the right hand."""

PARAMETERS = 64
"""Size of a hand's parameter vector: 6 rotation, 45 pose, 10 shape, 1 scale, 2 translation."""
ROTATION = slice(0, 6)
POSE = slice(6, 51)
BETAS = slice(51, 61)
CAMERA_SCALE = 61
CAMERA_TRANSLATION = slice(62, 64)

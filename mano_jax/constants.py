"""Numbers that define a MANO hand; every other module takes them from here."""

SIDES = ("left", "right")
"""Order of the two hands wherever they share an axis."""

VERTICES = 778
FACES = 1538
MANO_JOINTS = 16
JOINTS = 21
BETAS = 10
POSE_COMPONENTS = 45
POSE_CORRECTIVES = 135

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""Parent of each of MANO's joints: wrist, then three of index, middle, pinky, ring and thumb."""

JOINT_ORDER = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Takes MANO's 16 joints followed by five tips to wrist, thumb, index, middle, ring, pinky."""

BONES = tuple(
    (0 if level == 0 else 4 * finger + level, 4 * finger + level + 1)
    for finger in range(5)
    for level in range(4)
)
"""The 20 (parent, child) pairs of the 21-joint order."""

JOINT_NAMES = (
    "wrist",
    *(
        f"{finger}{i}"
        for finger in ("thumb", "index", "middle", "ring", "pinky")
        for i in range(1, 5)
    ),
)

TIPS = {
    "manopth": {"left": (745, 317, 445, 556, 673), "right": (745, 317, 444, 556, 673)},
    "intaghand": {"left": (745, 317, 444, 556, 673), "right": (745, 317, 444, 556, 673)},
    "smplx": {"left": (744, 320, 443, 554, 671), "right": (744, 320, 443, 554, 671)},
}
"""Vertices standing for the tips of thumb, index, middle, ring and pinky, by convention.

`manopth` is what DIR's network regresses, `intaghand` what DIR and IntagHand evaluate with.
"""

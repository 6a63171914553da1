"""Captures of the synthetic studio: a subject, clothes, lights, a backdrop and a ring of cameras.

Modelled on InterHand2.6M's: some hundred lamps on a dome round a person who looks towards -z,
cameras about a metre from the hands, colour ones named 400... and grey ones 410....
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

MIDDLE = np.array([0.0, 0.0, 1.05])
"""Where hands are, world axes (x right, y down, z away), metres."""

PORTRAIT, LANDSCAPE = (512, 334), (334, 512)
"""(height, width) of InterHand2.6M's pictures at 5 fps."""

SKIN_TONES = np.array([
    [238, 202, 182], [225, 180, 152], [202, 152, 120], [172, 120, 88], [128, 84, 60], [88, 56, 42],
])  # fmt: skip
"""sRGB from light to dark; a subject's tone lies between two neighbours."""

CLOTH_SPAN = 0.32
"""Metres that one tile of a cloth's picture covers."""

BACKDROPS = {
    "studio": ("lamps", "lamps", "lamps", "dark", "blobs", "blobs", "grain"),
    "everyday": ("clutter", "clutter", "clutter", "clutter", "blobs", "blobs", "grain", "dark"),
}
"""Kinds of background by surroundings, each as often as it is named."""


@dataclasses.dataclass(frozen=True)
class Variety:
    """How varied a data set is.

    Attributes:
      views: pictures of one frame.
      single_share: share of sequences with one hand only.
      yaw: degrees that cameras stand to either side of the person's front at most; 180: all round.
      pitch: degrees that they stand up or down, at most.
      roll: degrees that they are turned about their own axis, standard deviation.
      surroundings: key of `BACKDROPS`. Everyday surroundings differ from the studio's in their
        light, which may come from a single lamp on any side, in the colour and the distance of the
        cameras, whose pictures hands fill more, and in what is behind.
      blended: share of hands whose fingers are each somewhere between two postures.
      meetings: names of `interaction.MEETINGS` that occur; none for all of them.
    """

    views: int = 3
    single_share: float = 0.12
    yaw: float = 60.0
    pitch: float = 30.0
    roll: float = 3.0
    surroundings: str = "studio"
    blended: float = 0.0
    meetings: tuple[str, ...] = ()


VARIETIES = {
    "studio": Variety(),
    "everyday": Variety(4, 0.33, 180.0, 75.0, 30.0, "everyday", 0.5),
    "plain": Variety(2, 0.0, 30.0, 20.0, meetings=("side", "backs", "free", "tent", "touch")),
}
"""InterHand2.6M's studio; hands as people photograph them, one or two, from any side, in any place
and light; and two hands, seen from the front, that do not hide each other much."""

CAMERAS = 12
"""Of a capture."""


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """One camera: X_camera = rotation @ (X_world - position).

    Attributes:
      name: as in the files.
      rotation: (3, 3) world to camera.
      position: (3,) metres, world.
      focal: (2,) pixels.
      princpt: (2,) pixels, whole numbers at their centres.
      size: (height, width).
      grey: whether it has no colour.
      balance: (3,) gain of red, green and blue.
    """

    name: str
    rotation: np.ndarray
    position: np.ndarray
    focal: np.ndarray
    princpt: np.ndarray
    size: tuple[int, int]
    grey: bool
    balance: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) intrinsics in pixels."""
        (fx, fy), (cx, cy) = self.focal, self.princpt
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])

    def see(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in camera axes, metres."""
        return (points - self.position) @ self.rotation.T

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) as pixels (..., 2)."""
        seen = self.see(points)
        return seen[..., :2] / seen[..., 2:] * self.focal + self.princpt


@dataclasses.dataclass(frozen=True, eq=False)
class Capture:
    """What stays the same while one person is recorded.

    Attributes:
      number: the capture's number.
      subject: the person's number.
      seed: numbers that fix everything random about it.
      betas: (10,) of both hands.
      skin: (3,) linear albedo.
      red: how much redder palms and knuckles are.
      bare: share of the forearm that no sleeve covers; 1 or more for none.
      girth: factor on the forearm's thickness.
      shoulders: (3,) world, metres.
      trunk: (half width, half depth), or None when the person's body is not seen.
      lights: (L, 3) unit directions towards the lamps, world.
      strengths: (L,) of the lamps.
      ambient: light from everywhere.
      backdrop: one of `BACKDROPS`.
      cameras: the ring.
    """

    number: int
    subject: int
    seed: tuple[int, ...]
    betas: np.ndarray
    skin: np.ndarray
    red: float
    bare: float
    girth: float
    shoulders: np.ndarray
    trunk: tuple[float, float] | None
    lights: np.ndarray
    strengths: np.ndarray
    ambient: float
    backdrop: str
    cameras: tuple[Camera, ...]


def capture(number: int, subject: int, seed: tuple[int, ...], variety: Variety) -> Capture:
    """Draws one capture; the same seed gives the same."""
    everyday = variety.surroundings == "everyday"
    generator = np.random.default_rng(seed)
    tone = generator.uniform(0, len(SKIN_TONES) - 1.001)
    low = int(tone)
    shade = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    skin = (shade / 255 * generator.uniform([0.96, 0.95, 0.92], [1.03, 1.03, 1.06])) ** 2.2
    count = 9
    # Lamps all round the front: even directions with some displacement, one a little stronger.
    turn = np.arange(count) * 2.4 + generator.uniform(0, 6.3)
    high = np.linspace(0.95, -0.35, count) + generator.normal(0, 0.08, count)
    ahead = -np.sin(turn) if everyday else -np.abs(np.sin(turn)) - 0.25
    lights = np.stack([np.cos(turn), -high, ahead], axis=1)
    lights /= np.linalg.norm(lights, axis=1, keepdims=True)
    evenness = generator.uniform(0.1 if everyday else 0.4, 2.5)
    strengths = generator.dirichlet(np.full(count, evenness))
    return Capture(
        number, subject, tuple(seed),
        betas=np.clip(generator.normal(0, 0.8, 10), -2, 2).round(6),
        skin=skin,
        red=float(generator.uniform(0.5, 1.2)),
        bare=float(generator.choice([0.25, 0.45, 0.7, 1.0, 1.0])),
        girth=float(generator.uniform(0.2, 1.0)),
        shoulders=MIDDLE + [0, -0.36, 0.33] + generator.normal(0, 0.02, 3),
        trunk=(float(generator.uniform(0.17, 0.23)), float(generator.uniform(0.09, 0.13)))
        if generator.random() < 0.85 else None,
        lights=lights,
        strengths=strengths,
        ambient=float(generator.uniform(0.04, 0.6 if everyday else 0.25)),
        backdrop=str(generator.choice(BACKDROPS[variety.surroundings])),
        cameras=camera_ring(generator, variety),
    )  # fmt: skip


def camera_ring(generator: np.random.Generator, variety: Variety) -> tuple[Camera, ...]:
    """Cameras about the hands."""
    everyday = variety.surroundings == "everyday"
    spread = [[0.78, 0.85, 0.62], [1.2, 1.1, 1.2]]
    balance = generator.uniform(*(spread if everyday else [[0.9, 0.98, 0.62], [1.1, 1.08, 1.02]]))
    yaws = np.linspace(-variety.yaw, variety.yaw, CAMERAS) + generator.uniform(-5, 5, CAMERAS)
    pitches = generator.uniform(-variety.pitch, variety.pitch, CAMERAS)
    numbers = np.sort(generator.choice(np.arange(2, 70), CAMERAS, replace=False))
    result = []
    for around, above, number in zip(yaws, pitches, numbers, strict=True):
        grey = bool(generator.random() < (0.1 if everyday else 0.25))
        turn = Rotation.from_euler("YX", [around, above], degrees=True).as_matrix()
        distance = generator.uniform(0.4 if everyday else 0.95, 1.15)
        position = MIDDLE - turn[:, 2] * distance
        ahead = MIDDLE + generator.normal(0, 0.02, 3) - position
        size = PORTRAIT if generator.random() < 0.6 else LANDSCAPE
        rotation = look_along(ahead, generator.normal(0, variety.roll))
        focal = generator.uniform(1230, 1330) * generator.uniform(0.9995, 1.0005, 2)
        if everyday:
            focal *= distance * generator.uniform(0.95, 1.5)
        princpt = np.array(size[::-1]) / 2 + generator.normal(0, 12, 2)
        name = f"{'410' if grey else '400'}{number:03d}"
        own = np.full(3, generator.uniform(0.8, 1.1)) if grey else balance
        result.append(
            Camera(name, rotation.round(8), position.round(7), focal.round(4), princpt.round(4),
                   size, grey, own)
        )  # fmt: skip
    return tuple(result)


def look_along(ahead: np.ndarray, roll: float) -> np.ndarray:
    """World-to-camera rotation (3, 3) that looks along `ahead`, y down, rolled by degrees."""
    z = ahead / np.linalg.norm(ahead)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    upright = np.stack([x, np.cross(z, x), z])
    return Rotation.from_euler("z", roll, degrees=True).as_matrix() @ upright


@functools.lru_cache(maxsize=16)
def cloth(seed: tuple[int, ...], side: int = 256) -> np.ndarray:
    """Clothes of the capture with this seed: plain, striped, checked or printed.

    Returns:
      (side, side, 3) linear albedo, one tile of `CLOTH_SPAN` metres.
    """
    generator = np.random.default_rng((*seed, 5))

    def dye() -> np.ndarray:
        hsv = np.float32([[[generator.uniform(0, 360), generator.uniform(0, 0.7) ** 1.3,
                            generator.uniform(0.05, 0.75)]]])  # fmt: skip
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] ** 2.2

    tile = np.tile(dye().astype(np.float32), (side, side, 1))
    kind = generator.choice(["plain", "plain", "striped", "checked", "printed"])
    for _ in range(int(generator.integers(1, 4)) if kind in ("striped", "checked") else 0):
        period = side // int(generator.choice([4, 8, 16]))
        band = (np.arange(side) + generator.integers(side)) % period
        band = 0.7 * (band < period * generator.uniform(0.1, 0.5)).astype(np.float32)[:, None, None]
        colour = dye()
        for lines in (band, band.swapaxes(0, 1))[: 1 + (kind == "checked")]:
            tile = tile * (1 - lines) + colour * lines
    for _ in range(int(generator.integers(2, 12)) if kind == "printed" else 0):
        box = (
            generator.uniform(0, side, 2),
            generator.uniform(12, 80, 2),
            generator.uniform(0, 180),
        )
        cv2.ellipse(tile, box, dye().tolist(), -1)
    weave = 1 + 0.08 * generator.standard_normal((side, side, 1)).astype(np.float32)
    return np.clip(tile * weave, 0, 1).astype(np.float32)

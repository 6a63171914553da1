"""Drawing triangle meshes through a pinhole camera, over OpenCV's software rasteriser.

Camera axes are this project's: x right, y down, z forward, metres. A pixel (column i, row j) has
its centre at (i + 0.5, j + 0.5) and shows the point x with camera @ x ~ (i + 0.5, j + 0.5, 1).
Annotations, crops and OpenCV's resampling have whole numbers at pixel centres instead: give
`render_meshes` their camera through `whole_number_centres`.

`cv2.triangleRasterize` (OpenCV 5) knows only a symmetric field of view, looks along -z and has y
up. It is perspective-correct and exact at pixel centres, but three habits of it are met here:
the settings object made from Python draws everything white until a shading type is set; the depth
of an empty pixel does not come back as exactly zFar; and a triangle that reaches behind the camera
is drawn wrongly, so such triangles are left out.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from input_pipeline.commands import InstallationError

if not hasattr(cv2, "triangleRasterize"):
    raise InstallationError(
        f"OpenCV 5 is needed, and {cv2.__version__} is installed in {cv2.__path__[0]}: "
        'pip install -U "opencv-python-headless>=5,<6", and remove other opencv packages'
    )

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(vertices_xyz (V, 3) metres, faces (F, 3), colours or other values at the vertices (V, C))."""

# `shade`: direction towards the light in camera axes, shares of even and of direct light.
LIGHT = np.array([-0.4, -0.7, -1.0])
AMBIENT, DIFFUSE = 0.4, 0.7


def whole_number_centres(camera: np.ndarray) -> np.ndarray:
    """Intrinsics (3, 3) for this module of a camera that counts pixel centres in whole numbers.

    InterHand2.6M's annotations are read that way by the public DIR and IntagHand code (their crop
    is `cv2.warpAffine` on the very numbers the points have), and so are this project's records.
    """
    return np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]) @ np.asarray(camera, np.float64)


def render_meshes(
    meshes: Sequence[Mesh],
    camera: np.ndarray,
    size: tuple[int, int],
    supersample: int = 1,
    *,
    background: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Values of the nearest surface at every pixel centre, interpolated in 3D.

    Args:
      meshes: (vertices_xyz (V, 3) in camera metres, faces (F, 3), values (V, C) in 0..1) each:
        colours, or anything else; with C = 0 only the depth is found. A triangle with a vertex at
        or behind the camera plane is left out.
      camera: (3, 3) intrinsics in pixels of the picture.
      size: (height, width) of the picture.
      supersample: each pixel averages this many squared samples (1: none).
      background: (h, w, C) in 0..1 behind the meshes; zero when None.

    Returns:
      (values (h, w, C) float32 in 0..1, depth (h, w) float32: z in metres, of the nearest sample,
      infinite where nothing was drawn).

    Raises:
      ValueError: a mesh, the camera or the background has the wrong shape.
    """
    camera = np.asarray(camera, np.float64)
    if camera.shape != (3, 3):
        raise ValueError(f"camera has shape {camera.shape}, wanted (3, 3)")
    if background is not None:
        background = np.asarray(background, np.float32)
        if background.shape[:-1] != tuple(size):
            raise ValueError(f"background has shape {background.shape}, wanted {(*size, 'C')}")
    if supersample > 1:
        (height, width), n = size, supersample
        if background is not None:
            background = background.repeat(n, axis=0).repeat(n, axis=1)
        fine = np.diag([n, n, 1.0]) @ camera, (n * height, n * width)
        values, depth = render_meshes(meshes, *fine, background=background)
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
        return values, depth.reshape(height, n, width, n).min(axis=(1, 3))
    vertices, faces, values = _joined(meshes)
    channels = values.shape[1] if background is None else background.shape[-1]
    picture = np.zeros((*size, channels), np.float32)
    if background is not None:
        picture[:] = background
    depths = vertices[faces, 2]
    seen = depths.min(axis=1, initial=np.inf) > 1e-6
    faces, depths = faces[seen], depths[seen]
    if not len(faces):
        return picture, np.full(size, np.inf, np.float32)
    near, far = 0.5 * float(depths.min()), 2.0 * float(depths.max())
    points = _to_symmetric_frustum(vertices, camera, size)[:, None]
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    view = (np.eye(4, dtype=np.float32), math.pi / 2, near, far, settings)
    depth = np.full(size, far, np.float32)
    if not channels:
        cv2.triangleRasterizeDepth(points, faces[:, None], depth, *view)
    for start in range(0, channels, 3):  # OpenCV draws three channels at a time
        count = min(3, channels - start)
        colours = np.zeros((len(values), 1, 3), np.float32)
        colours[:, 0, :count] = values[:, start : start + count]
        layer = np.zeros((*size, 3), np.float32)
        layer[..., :count] = picture[..., start : start + count]
        depth[:] = far
        cv2.triangleRasterize(points, faces[:, None], colours, layer, depth, *view)
        picture[..., start : start + count] = layer[..., :count]
    depth[depth > 0.75 * far] = np.inf
    return picture, depth


def vertex_normals(vertices_xyz: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of a mesh, pointing to the counter-clockwise side, weighted by area."""
    vertices = np.asarray(vertices_xyz, np.float64)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for axis, corner in np.ndindex(3, 3):
        normals[:, axis] += np.bincount(faces[:, corner], across[:, axis], len(vertices))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)


def shade(
    vertices_xyz: np.ndarray, faces: np.ndarray, base_colour: np.ndarray | Sequence[float]
) -> np.ndarray:
    """Colours of a matt surface under one distant light and even light from all around.

    Args:
      vertices_xyz: (V, 3), camera axes.
      faces: (F, 3), outside counter-clockwise.
      base_colour: (3,) or (V, 3) RGB in 0..1.

    Returns:
      (V, 3) RGB float32 in 0..1, for `render_meshes`.
    """
    towards = LIGHT / np.linalg.norm(LIGHT)
    facing = np.maximum(vertex_normals(vertices_xyz, faces) @ towards, 0.0)  # Lambert's law
    strength = (AMBIENT + DIFFUSE * facing)[:, None]
    return np.clip(np.asarray(base_colour) * strength, 0.0, 1.0).astype(np.float32)


def _joined(meshes: Sequence[Mesh]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex, face and value array of several meshes."""
    parts, start = [], 0
    for number, mesh in enumerate(meshes):
        vertices, faces, values = map(np.asarray, mesh)
        for name, array, shape in (
            ("vertices", vertices, (len(vertices), 3)),
            ("faces", faces, (len(faces), 3)),
            ("values", values, (len(vertices), values.shape[-1])),
        ):
            if array.shape != shape:
                raise ValueError(f"mesh {number}: {name} have shape {array.shape}, wanted {shape}")
        parts.append((vertices, faces + start, values))
        start += len(vertices)
    parts = parts or [(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)))]
    vertices, faces, values = map(np.concatenate, zip(*parts, strict=True))
    return vertices.astype(np.float64), faces.astype(np.int32), values.astype(np.float32)


def _to_symmetric_frustum(
    vertices_xyz: np.ndarray, camera: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Vertices (V, 3) float32 that a 90 degree symmetric view shows where `camera` shows ours.

    With fovY = pi / 2 OpenCV puts (x, y, -z) at column w/2 + (h/2) x/z and row h/2 - (h/2) y/z,
    so a linear change of the coordinates reaches every pinhole.
    """
    half_height, half_width = size[0] / 2.0, size[1] / 2.0
    x, y, depth = (vertices_xyz @ camera.T).T
    points = [(x - half_width * depth) / half_height, (half_height * depth - y) / half_height]
    return np.stack([*points, -depth], axis=-1).astype(np.float32)

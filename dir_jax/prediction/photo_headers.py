"""Sizes that WebP, BMP and TIFF files claim, read before anything is decoded."""

from __future__ import annotations

import struct

_WIDTH, _HEIGHT = 256, 257
"""TIFF 6.0: tags ImageWidth and ImageLength."""
_INTEGERS = {3: "H", 4: "I"}
"""TIFF 6.0: field types SHORT and LONG."""


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP, BMP or TIFF file; None when it is none of them, or damaged."""
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data, "<" if data[:2] == b"II" else ">")
    except (struct.error, KeyError, IndexError):
        pass
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: lossy (VP8), lossless (VP8L) or extended (VP8X)."""
    kind = data[12:16]
    if kind == b"VP8X":
        numbers = data[24:30]
        return 1 + int.from_bytes(numbers[:3], "little"), 1 + int.from_bytes(numbers[3:], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _bmp(data: bytes) -> tuple[int, int]:
    """BITMAPCOREHEADER (12 bytes) has 16-bit sides; later headers have 32-bit ones, signed."""
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)


def _tiff(data: bytes, order: str) -> tuple[int, int]:
    """The first image's tags."""
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    found = {}
    for entry in range(count):
        place = start + 2 + 12 * entry
        tag, kind, _ = struct.unpack_from(f"{order}HHI", data, place)
        if tag in (_WIDTH, _HEIGHT):
            found[tag] = struct.unpack_from(f"{order}{_INTEGERS[kind]}", data, place + 8)[0]
    return found[_WIDTH], found[_HEIGHT]

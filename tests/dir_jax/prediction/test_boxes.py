import argparse
import json
from typing import NamedTuple

import numpy as np
import pytest

from dir_jax.prediction.boxes import (
    NoHandError,
    annotated,
    box_around,
    detected,
    given,
    intersection_over_union,
    parse_box,
    read_boxes,
    whole_photo,
)
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import PhotoError

IMAGE = np.zeros((100, 200, 3), np.uint8)


def source(path="a.jpg", argument=0):
    return Source(path, "a", False, argument)


class Seen(NamedTuple):
    box: tuple
    presence: float = 0.9


def finds(path, *photos):
    """Boxes of photos according to a file; None where it has none."""
    find, boxes = annotated(path), []
    for photo in photos:
        try:
            boxes.append(find(source(photo), IMAGE).box)
        except PhotoError:
            boxes.append(None)
    return boxes


def interhand(images_first=True):
    images = [
        {"id": 7, "file_name": "Capture0/x/cam1/image1.jpg", "width": 512},
        {"id": 9, "file_name": "Capture0/x/cam2/image1.jpg", "width": 512},
    ]
    annotations = [
        {"id": 1, "image_id": 9, "bbox": [5, 6, 7.5, 8]},
        {"id": 2, "image_id": 7, "bbox": [1, 2, 3, 4]},
    ]
    parts = [("images", images), ("annotations", annotations)]
    return dict(parts if images_first else parts[::-1])


@pytest.mark.parametrize("images_first", [True, False])
def test_boxes_of_interhand_are_joined_by_image(tmp_path, images_first):
    (tmp_path / "data.json").write_text(json.dumps(interhand(images_first)))
    there = "/raw/images/test/Capture0/x/cam1/image1.jpg"
    photos = there, there.replace("cam1", "cam2"), there.replace("Capture0", "Capture1")
    assert finds(tmp_path / "data.json", *photos) == [(1, 2, 3, 4), (5, 6, 7.5, 8), None]


@pytest.mark.parametrize(
    "text",
    [
        '{"a/p.jpg": [1, 2, 3, 4], "p.jpg": [9, 9, 9, 9]}',
        '[{"file_name": "a/p.jpg", "box": [1, 2, 3, 4]}, {"file": "p.jpg", "bbox": [9, 9, 9, 9]}]',
        '{"images": [{"file_name": "a/p.jpg", "box": [1, 2, 3, 4]}, '
        '{"file_name": "p.jpg", "box": [9, 9, 9, 9]}]}',
        "a/p.jpg,1,2,3,4\np.jpg,9,9,9,9\n",
        "\ufefffile,x,y,w,h\r\n\r\na/p.jpg, 1, 2, 3, 4\r\n./p.jpg,9,9,9,9\r\n",
    ],
)
def test_plain_boxes_in_every_form(tmp_path, text):
    (tmp_path / "boxes").write_text(text, encoding="utf-8")
    photos = "/some/where/a/p.jpg", "/some/where/b/p.jpg", "/some/where/b/q.jpg"
    # Of the first, the longer entry counts.
    assert finds(tmp_path / "boxes", *photos) == [(1, 2, 3, 4), (9, 9, 9, 9), None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no boxes in it"),
        ("{}", "no boxes in it"),
        ('{"a.jpg": [1, 2, 3]}', "is no box"),
        ('{"a.jpg": 5}', "is no box"),
        ('{"a.jpg": [1, 2', "damaged"),
        ('{"images": [{"id": 1, ', "damaged"),
        ("[[1, 2, 3, 4]]", "without file_name"),
        ("a.jpg,1,2,3\n", "line 1 has 4 cells"),
        ("a.jpg,1,2,3,wide\n", "is no box"),
        ("\x00\x01\x02", "cells"),
    ],
)
def test_bad_box_files_get_one_line(tmp_path, text, message):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_boxes(tmp_path / "boxes.json")
    assert "boxes.json" in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_and_missing_box_files(tmp_path):
    (tmp_path / "b").write_bytes(b"\xff\xfe\x80 no text")
    for name in ("b", "none", "."):
        with pytest.raises(ValueError, match="cannot be read"):
            read_boxes(tmp_path / name)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,0,3", "1,2,inf,3", "1,nan,3,3"])
def test_bad_boxes(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_box(text)


def test_overlap_and_union():
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert intersection_over_union((3, 4, 5, 6), (3, 4, 5, 6)) == 1
    assert box_around([(1, 5, 2, 2), (-1, 6, 1, 4)]) == (-1, 5, 4, 5)


def test_finders_say_where_the_box_comes_from(tmp_path):
    found = whole_photo(source(), IMAGE)
    assert (found.box, found.box_from) == (None, "whole photo")
    one, two = (1, 2, 3, 4), (5, 6, 7, 8)
    assert given([one])(source(argument=5), IMAGE)[3:5] == (one, "given")
    assert given([one, two])(source(argument=1), IMAGE)[3:5] == (two, "given")
    (tmp_path / "b.csv").write_text("a.jpg,1,2,3,4\n")
    find = annotated(tmp_path / "b.csv")
    assert find(source(), IMAGE)[3:5] == (one, "annotated")
    with pytest.raises(PhotoError, match=r"b\.jpg: .*b\.csv has no box for it"):
        find(source("b.jpg"), IMAGE)
    answers = iter([[Seen((0, 0, 10, 10)), Seen((20, 5, 10, 10))], []])
    find = detected(lambda image: next(answers))
    assert find(source(), IMAGE)[3:] == (
        *((0, 0, 30, 15), "detected", ((0, 0, 10, 10), (20, 5, 10, 10)), (0.9, 0.9)),
    )
    with pytest.raises(NoHandError, match=r"a\.jpg: no hands found; give a box"):
        find(source(), IMAGE)

import json
from typing import NamedTuple

import numpy as np
import pytest

from dir_jax.prediction.boxes import (
    NoHandError,
    annotated,
    detected,
    given,
    whole_photo,
)
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import PhotoError, box_around, intersection_over_union

IMAGE = np.zeros((100, 200, 3), np.uint8)


def source(path="a.jpg", argument=0):
    return Source(path, "a", False, argument)


class Seen(NamedTuple):
    box: tuple
    presence: float = 0.9
    right: float = 0.0


def finds(path, *photos):
    """Boxes of photos according to a file; None where it has none."""
    find, boxes = annotated(path), []
    for photo in photos:
        try:
            boxes.append(find(source(photo), IMAGE)[0].box)
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
        '\ufeff{"./a/p.jpg": ["1", "2", "3", "4"], "./p.jpg": [9, 9, 9, 9]}',
        '{"images": [{"file_name": "a/p.jpg", "box": [1, 2, 3, 4]}, '
        '{"file_name": "p.jpg", "box": [9, 9, 9, 9]}]}',
    ],
)
def test_plain_boxes_in_every_form(tmp_path, text):
    (tmp_path / "boxes").write_text(text, encoding="utf-8")
    photos = "/some/where/a/p.jpg", "/some/where/b/p.jpg", "/some/where/b/q.jpg"
    # Of the first, the longer entry counts.
    assert finds(tmp_path / "boxes", *photos) == [(1, 2, 3, 4), (9, 9, 9, 9), None]


def test_overlap_and_union():
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert intersection_over_union((3, 4, 5, 6), (3, 4, 5, 6)) == 1
    assert box_around([(1, 5, 2, 2), (-1, 6, 1, 4)]) == (-1, 5, 4, 5)


def test_finders_say_where_the_box_comes_from(tmp_path):
    (found,) = whole_photo(source(), IMAGE)
    assert (found.box, found.box_from) == (None, "whole photo")
    one, two = (1, 2, 3, 4), (5, 6, 7, 8)
    assert given([one])(source(argument=5), IMAGE)[0][3:5] == (one, "given")
    assert given([one, two])(source(argument=1), IMAGE)[0][3:5] == (two, "given")
    (tmp_path / "b.json").write_text('{"a.jpg": [1, 2, 3, 4]}')
    find = annotated(tmp_path / "b.json")
    assert find(source(), IMAGE)[0][3:5] == (one, "annotated")
    with pytest.raises(PhotoError, match=r"b\.jpg: .*b\.json has no box for it"):
        find(source("b.jpg"), IMAGE)
    with pytest.raises(NoHandError, match=r"No hands found in a\.jpg\. Give a box"):
        detected(lambda image: [])(source(), IMAGE)


LEFT, RIGHT = Seen((0, 0, 20, 20), 0.9, 0.1), Seen((30, 5, 20, 18), 0.8, 0.9)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([LEFT, RIGHT], [{LEFT, RIGHT}]),
        ([RIGHT._replace(box=(45, 0, 20, 20)), LEFT], [{LEFT}, {1}]),  # far apart
        ([RIGHT._replace(box=(30, 5, 8, 8)), LEFT], [{LEFT}, {1}]),  # another one's, further away
        ([LEFT, RIGHT._replace(right=0.1)], [{LEFT}, {2}]),  # two left hands, apart
        (
            [LEFT, RIGHT, *(h._replace(box=(h.box[0] + 120, *h.box[1:])) for h in (LEFT, RIGHT))],
            [{LEFT, RIGHT}, {3, 4}],
        ),
        # Someone's left hand beside a pair goes to nobody.
        ([LEFT._replace(box=(65, 0, 20, 20), presence=0.99), RIGHT, LEFT], [{LEFT, RIGHT}, {1}]),
    ],
)
def test_pairs_are_hands_of_one_person(seen, expected):
    photos = detected(lambda image: seen)(source(), IMAGE)
    for photo, hands in zip(photos, expected, strict=True):
        hands = {seen[hand - 1] if isinstance(hand, int) else hand for hand in hands}
        if {LEFT, RIGHT} == hands:
            assert photo[3:5] == ((0, 0, 50, 23), "detected")
        assert set(photo.seen) == hands
        assert sorted(photo.confidence) == sorted(hand.presence for hand in hands)
        assert photo.doubt == ""


def test_two_right_hands_that_touch_are_joined_with_a_doubt():
    hands = [RIGHT, RIGHT._replace(box=(45, 5, 20, 18))]
    (photo,) = detected(lambda image: hands)(source(), IMAGE)
    assert len(photo.seen) == 2 and "both look like right hands" in photo.doubt


def test_another_hand_in_the_crop_is_a_doubt():
    small = RIGHT._replace(box=(22, 5, 6, 6))  # of someone further away
    photos = detected(lambda image: [LEFT, small])(source(), IMAGE)
    assert [len(photo.seen) for photo in photos] == [1, 1]
    assert "another hand is in the crop" not in photos[1].doubt
    photos = detected(lambda image: [LEFT, small._replace(box=(8, 8, 6, 6))])(source(), IMAGE)
    assert "another hand is in the crop" in photos[0].doubt

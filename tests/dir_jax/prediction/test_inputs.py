from dir_jax.prediction.inputs import find_sources, result_path


def stems(*names):
    return [source.stem for source in find_sources([str(name) for name in names])[0]]


def test_results_of_equal_names_are_numbered():
    assert stems("a/x.jpg", "b/x.png", "x_2.jpg", "X.bmp") == ["x", "x_2", "x_2_2", "X_3"]


def test_long_names_leave_room_for_endings():
    first, second = stems("a" * 250 + ".jpg", "ä" * 125 + ".jpg"), stems(*["b" * 240 + ".jpg"] * 2)
    assert all(len(stem.encode()) <= 180 for stem in first)
    assert second[1] == second[0] + "_2"


def test_folders_are_searched_and_results_lie_as_the_photos(tmp_path):
    """In natural order (2 before 10), without hidden files and results."""
    for name in (
        *("b/2.PNG", "b/10.jpg", "a.mp4", "notes.txt", ".hidden.jpg", ".git/x.jpg", "b/2.jpg"),
        *("b/2.hands.overlay.png", "a.hands.mp4", "phone.HEIC", "moving.gif"),
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "nothing").mkdir()
    names = [str(tmp_path / "in"), "x/2.jpg", str(tmp_path / "nothing")]
    sources, useless = find_sources(names)
    expected = ["a", "b/2", "b/2_2", "b/10", "moving", "phone", "2"]
    assert [source.stem for source in sources] == expected
    assert [source.video for source in sources] == [True] + [False] * 6
    assert [source.argument for source in sources] == [0] * 6 + [1]
    assert len(useless) == 1 and "nothing: no photo or video" in useless[0]


def test_no_result_can_replace_an_input(tmp_path):
    clip = tmp_path / "clip.hands.mp4"
    sources, useless = find_sources([str(tmp_path / "clip.mp4"), str(clip)])
    assert result_path(tmp_path, sources[0].stem, "mp4") == clip
    assert len(sources) == 1 and "clip.hands.mp4: a result of predict.py by its name" in useless[0]


def test_names_that_are_all_suffix_or_no_text():
    assert stems(".jpg", b"\xff\xfe.jpg".decode(errors="surrogateescape")) == [".jpg", "photo"]

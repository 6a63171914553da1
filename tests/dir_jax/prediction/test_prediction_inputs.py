import pytest

from dir_jax.prediction.inputs import find_sources, natural_order, unique_stem


def test_unique_stems():
    taken = set()
    stems = [unique_stem(n, taken) for n in ("a/x.jpg", "b/x.png", "x_2.jpg")]
    assert stems == ["x", "x_2", "x_2_2"]


def test_frames_are_in_natural_order():
    names = ["image10.jpg", "image9.jpg", "Image1.jpg", "image.jpg", "2.jpg", "10.jpg"]
    assert sorted(names, key=natural_order) == [
        *("2.jpg", "10.jpg", "Image1.jpg", "image9.jpg", "image10.jpg", "image.jpg")
    ]


def test_folders_are_searched_and_results_lie_as_the_photos(tmp_path):
    for name in (
        "b/2.PNG",
        "b/10.jpg",
        "a.mp4",
        "notes.txt",
        ".hidden.jpg",
        ".git/x.jpg",
        "b/2.jpg",
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "nothing").mkdir()
    names = [str(tmp_path / "in"), "x/2.jpg", str(tmp_path / "nothing")]
    sources, empty = find_sources(names)
    assert [s.stem for s in sources] == ["a", "b/2", "b/2_2", "b/10", "2"]
    assert [s.video for s in sources] == [True, False, False, False, False]
    assert [s.argument for s in sources] == [0, 0, 0, 0, 1]
    assert len(empty) == 1 and "nothing: no photo or video" in empty[0]


@pytest.mark.parametrize("name", ["..", "/", "."])
def test_strange_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert unique_stem(name, set())

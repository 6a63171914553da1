"""The picture of augmented examples."""

import cv2
import numpy as np
import pytest

from dir_jax.training import preview
from input_pipeline.dataset_writer import write_dataset
from tests.input_pipeline.examples import random_record


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, {"train": [random_record(i) for i in range(3)]})
    return str(folder)


def test_writes_a_sheet(data_dir, tmp_path):
    output = tmp_path / "preview.png"
    assert preview.main(["--data", data_dir, "--output", str(output), "--count", "3"]) == 0
    sheet = cv2.imread(str(output))
    assert sheet.shape == (2 * 256 + 4, 2 * 640 + 4, 3)
    photo, overlay = sheet[:256, :256].astype(int), sheet[:256, 256:512].astype(int)
    covered = np.abs(photo - overlay).max(-1) > 8
    assert 0.02 < covered.mean() < 0.9
    # The segmentation, drawn small beside it, covers the same part of the picture.
    labelled = sheet[:128, 512:640].max(-1) > 0
    assert abs(labelled.mean() - covered.mean()) < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"--data": "/no/such/folder"}, "no prepared data"), ({"--mano": "/no/such"}, "/no/such")],
)
def test_bad_input_is_one_line(data_dir, tmp_path, capsys, changes, message):
    options = {"--data": data_dir, "--output": str(tmp_path / "p.png"), **changes}
    assert preview.main([text for pair in options.items() for text in pair]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [["--count", "0"], ["--output", "p.jpg"]])
def test_bad_options_are_refused(data_dir, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        preview.main(["--data", data_dir, "--output", "p.png", *wrong])
    assert stop.value.code == 2 and "wanted" in capsys.readouterr().err

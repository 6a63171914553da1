"""What is installed: one list of requirements in two forms, and a core that needs no extra."""

import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_requirements_files_are_the_projects_own_lists():
    extras = PROJECT["optional-dependencies"]
    full = {*PROJECT["dependencies"], *extras["train"], *extras["pages"], *extras["dev"]}
    assert requirements("requirements.txt") == full
    assert requirements("requirements-reference.txt") == set(extras["reference"])


CORE = [
    "dir_jax.prediction.command",
    "dir_jax.evaluation.command",
    "dir_jax.evaluation.predictions",
    "dir_jax.convert",
    "dir_jax.export",
    "dir_jax.models.network",
    "dir_jax.losses.terms",
    "dir_jax.weights.loading",
]


@pytest.mark.parametrize("module", CORE)
def test_the_core_is_imported_without_any_extra(module):
    blocked = (
        "import sys\n"
        "from input_pipeline.commands import EXTRAS\n"
        "for name in ' '.join(EXTRAS.values()).split():\n"
        "    sys.modules[name] = None\n"
        f"import {module}\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_an_older_opencv_is_named_in_one_line(tmp_path):
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text("__version__ = '4.11.0'\n")
    done = subprocess.run(
        [sys.executable, ROOT / "predict.py", "--image", "x.jpg", "--output", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: OpenCV 5 is needed, and 4.11.0 is installed in ")
    assert done.stderr.count("\n") == 1

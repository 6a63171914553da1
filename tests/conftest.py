"""Shared test set-up: programs are compiled fast rather than well, and once; eight devices."""

import collections
import os
import pathlib
import tempfile

from tests import QUICK_XLA

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Eight devices. Of two flags the last wins.
os.environ["XLA_FLAGS"] = " ".join(
    ["--xla_force_host_platform_device_count=8", QUICK_XLA, os.environ.get("XLA_FLAGS", "")]
)
# Nearly all of the tests' time is compiling programs that run once.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# What one worker or subprocess has compiled is compiled for all. The workers of pytest-xdist and
# all subprocesses inherit the folder; it goes with the process that made it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="dir_jax_compiled_", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden_dir() -> pathlib.Path:
    """Folder of the reference's numbers (see golden/README.md)."""
    return GOLDEN


@pytest.fixture(scope="module", autouse=True)
def compiler(request):
    """Compiles as well as it can for files marked `optimised`, and forgets a file's programs.

    The programs of all files together are several gigabytes.
    """
    quick = jax.config.read("jax_disable_most_optimizations")
    if request.node.get_closest_marker("optimised"):
        jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", quick)
    jax.clear_caches()


def pytest_configure(config):
    """Leaves the order of files to `pytest_collection_modifyitems`."""
    if getattr(config.option, "loadscopereorder", False):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: of several workers none is left alone with them."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])

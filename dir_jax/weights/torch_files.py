"""Reading PyTorch weight files without PyTorch, and without executing anything in them."""

from __future__ import annotations

import os
import pathlib
import zipfile

import numpy as np

SUFFIXES = (".pth", ".pt", ".safetensors")


class WeightsError(ValueError):
    """A weight file that cannot be used; the message says why and what to do."""


def _from_zip(path: pathlib.Path):
    import ptloader

    # Strict: classes of TorchScript archives are refused like any other unknown name.
    return ptloader.load(path, weights_only=True, torchscript_mode="strict")


def _from_old_format(path: pathlib.Path):
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{path} is not in PyTorch's zip format (written since version 1.6); re-save it with "
            "torch.save, or install torch to read it here"
        ) from None
    return torch.load(path, map_location="cpu", weights_only=True)


def _read(path: pathlib.Path):
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    return _from_zip(path) if zipfile.is_zipfile(path) else _from_old_format(path)


def _as_arrays(state, path) -> dict[str, np.ndarray]:
    arrays = {}
    for name, value in state.items():
        value = value.numpy() if hasattr(value, "numpy") else value
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise WeightsError(f"{path}: {name!r} is {type(value).__name__}; wanted a tensor")
        if value.dtype.kind not in "fiub":
            raise WeightsError(f"{path}: {name} has dtype {value.dtype}; wanted numbers")
        arrays[name.removeprefix("module.")] = value
    return arrays


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Tensors by name from a `.pth`, `.pt` or `.safetensors` file.

    A checkpoint that keeps its weights under `net` (the authors'), `state_dict` or `model` is
    unpacked, and the `module.` prefix of DataParallel is dropped. Only tensors and plain
    containers are admitted; a file that names any other class is refused before it runs.

    Raises:
      WeightsError: missing, unreadable, refused, or without tensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; wanted a PyTorch weight file (.pth)")
    try:
        state = _read(path)
    except WeightsError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as tensors ({reason}); wanted a state dict saved by torch.save"
        ) from None
    for key in ("net", "state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds {type(state).__name__}; wanted a dict of tensors")
    return _as_arrays(state, path)


def write_state_dict(path: str | os.PathLike, state: dict[str, np.ndarray]) -> None:
    """Writes tensors for PyTorch, atomically.

    A `.safetensors` file needs nothing; a `.pth` file (as the authors': a dict with `net`) needs
    torch.
    """
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: wanted a file name ending in {', '.join(SUFFIXES)}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file(state, temporary)
        else:
            _save_with_torch(temporary, state)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _save_with_torch(path, state):
    try:
        import torch
    except ImportError:
        raise WeightsError(
            "writing .pth needs torch (pip install torch); a .safetensors file does not"
        ) from None
    torch.save({"net": {n: torch.from_numpy(a.copy()) for n, a in state.items()}}, path)

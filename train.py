"""Trains DIR.

    python train.py --config configs/quickstart.py --workdir DIR [--config.group.field=value ...]

Leaves in DIR: config.json, checkpoints/, metrics.jsonl, validation.jsonl, tensorboard/,
evaluation.json and pictures/. The same command goes on from the last checkpoint.

Exit codes: 0 finished, 1 failed, 2 bad input, 75 stopped by SIGTERM or SIGINT (everything saved).
"""

from __future__ import annotations

import sys
from pathlib import Path

from dir_jax.training.command_line import parse, prepare_process


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parsed = parse(arguments, __doc__)
    if isinstance(parsed, int):
        return parsed
    prepare_process()
    from dir_jax.training.exits import BAD_INPUT, FAILED, RunError
    from dir_jax.training.run import train

    config, workdir = parsed
    try:
        return train(config, Path(workdir))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

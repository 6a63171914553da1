"""Trains DIR.

    python train.py --config configs/quickstart.py --workdir DIR [--config.group.field=value ...]

Leaves in DIR: config.json, checkpoints/, metrics.jsonl, validation.jsonl, tensorboard/,
evaluation.json and pictures/. The same command goes on from the last checkpoint.

Exit codes: 0 finished, 1 failed, 2 bad input, 75 stopped by SIGTERM or SIGINT (everything saved).
"""

from __future__ import annotations

import errno
import sys
import traceback
from pathlib import Path

from dir_jax.training.command_line import parse, prepare_process


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parsed = parse(arguments, __doc__)
    if isinstance(parsed, int):
        return parsed
    prepare_process()
    from dir_jax.training import peers

    config, workdir = parsed
    if config.parallel.coordinator and not peers.is_watched():
        return peers.watch_over([sys.executable, *sys.orig_argv[1:]])
    if peers.is_watched():
        peers.die_with_parent()
    return outcome(config, Path(workdir))


def outcome(config, workdir: Path) -> int:
    """Trains; says in one line what ended it, if anything did, and returns the exit status."""
    from dir_jax.training import peers
    from dir_jax.training.exits import BAD_INPUT, FAILED, RunError
    from dir_jax.training.run import train

    try:
        return train(config, workdir)
    except RunError as error:
        code, reason = FAILED, error
    except (ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        code, reason = FAILED if full else BAD_INPUT, error
    except Exception:
        if not peers.has_peers():
            raise
        traceback.print_exc()
        peers.leave(FAILED)
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if peers.has_peers():
        peers.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A local page on which one drops a photo, drags a box and sees both hands.

    python -m dir_jax.serve --workdir RUN

It listens on 127.0.0.1 only; photos and results stay in memory and are never written to disk.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dir_jax.box_finding import Finder, detected, whole_photo
from dir_jax.loading import Loaded
from dir_jax.model_arguments import add_model_arguments, keep_compiled, load_named_model
from dir_jax.prediction import Predictor
from dir_jax.web.server import LocalServer
from dir_jax.web.studio import Studio

PORT = 8765


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.serve",
        description="Serves a local page that reconstructs both hands in dropped photos.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"on 127.0.0.1 (default: {PORT}; 0: a free one)"
    )
    parser.add_argument(
        "--detect", action="store_true", help="find the hands where no box is dragged"
    )
    parser.add_argument(
        "--detector", metavar="DIR", help="folder of the detector's models (default: the cache)"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        parser.error(f"--port is {options.port}; wanted 0 to 65535")
    return options


def _finder(options: argparse.Namespace) -> Finder:
    if not options.detect:
        return whole_photo
    from dir_jax.detection import load_detector  # optional packages

    return detected(load_detector(options.detector))


def _notes(loaded: Loaded) -> tuple[str, ...]:
    return (f"Hand model: {loaded.hands.name} ({loaded.hands.licence}).", *loaded.notes)


def make_server(loaded: Loaded, port: int, finder: Finder = whole_photo) -> LocalServer:
    """A server that is ready to answer; `serve_forever` and `server_close` are the caller's.

    Raises:
      OSError: the port is taken.
    """
    predictor = Predictor(loaded, batch_size=1)
    server = LocalServer(port, Studio(predictor, finder), _notes(loaded))
    predictor.compile()
    return server


def serve(options: argparse.Namespace) -> None:
    """Serves until interrupted."""
    finder = _finder(options)
    keep_compiled()
    loaded = load_named_model(options)
    print("compiling the network...", flush=True)
    with make_server(loaded, options.port, finder) as server:
        print(f"open {server.url} (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _options(arguments)
    try:
        serve(options)
    except KeyboardInterrupt:
        print("ended")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A page to try photographs on: hands over the photo, in 3D, and stage by stage.

    python -m dir_jax.demo [--workdir RUN | --weights FILE ...] [--share]

It needs Gradio (`pip install "dir-jax[demo]"`), listens on 127.0.0.1, and is public only with
--share, or as a Hugging Face Space, whose app.py this file can be.
"""

# No postponed annotations here: Gradio reads those of handlers, where its own name is local.
import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from dir_jax.demo import answers
from dir_jax.demo.answers import Look
from dir_jax.prediction.boxes import Finder, detected
from dir_jax.prediction.detection import HandDetector
from dir_jax.prediction.predictor import Predictor
from dir_jax.weights.loading import add_model_arguments, keep_compiled, load_named_model
from input_pipeline.commands import command
from input_pipeline.workers import sigterm_interrupts

LARGEST_UPLOAD = 20_000_000
"""Bytes."""
KEPT = 600
"""Seconds after which uploads and results are deleted while the demo runs."""
SESSIONS = 32
"""People whose last photo is remembered."""
WAITING = 16
"""People who may wait for the network; others are told to come back."""
EXAMPLES = sorted((pathlib.Path(answers.__file__).parent / "examples").glob("*.jpg"))
"""Synthesised photographs."""
INTRODUCTION = """# Two hands from one photograph
Upload a photo of hands, or take one: both are found, drawn over it, and stand in 3D beside it.
To choose the box yourself, click two opposite corners of it in the picture in the middle."""


class LocalOnly:
    """Refuses, before anything is read, requests for another host and from another page.

    A page of the internet can have its name point to this machine; its requests arrive under that
    name, or say where they come from.

    Args:
      app: what answers the others (ASGI).
      share: whether Gradio's public address is one of ours.
    """

    def __init__(self, app, share: bool = False):
        self._app, self._share = app, share

    async def __call__(self, scope, receive, send):
        """Answers one request."""
        headers = dict(scope.get("headers", ()))
        host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname
        origin = headers.get(b"origin")
        came_from = urlsplit(origin.decode("latin-1")).hostname if origin is not None else host
        if scope["type"] == "lifespan" or (self._ours(host) and self._ours(came_from)):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"this host is not served\n"})

    def _ours(self, host: str | None) -> bool:
        local = host in ("127.0.0.1", "localhost")
        return local or (self._share and str(host).endswith(".gradio.live"))


def build(predictor: Predictor, finder: Finder, folder: str, examples=EXAMPLES):
    """The page, a `gradio.Blocks`.

    Args:
      predictor: of batch size 1.
      finder: looks for hands where no box is given.
      folder: for what results leave.
      examples: photos to choose from.
    """
    import gradio

    def shown(look: Look, pair=0, stage=None):
        stages = len(look.results[0].stages.params) if look.results else 1
        last = stages - 1 if stage is None else stage
        pairs = [(f"pair {number + 1}", number) for number in range(len(look.results))]
        return (
            look,
            *answers.show(look, pair or 0, last, folder),
            gradio.Slider(maximum=max(stages - 1, 1), value=last, visible=stages > 1),
            gradio.Radio(pairs, value=pair or 0, visible=len(pairs) > 1),
        )

    def opened(path):
        look = answers.open_photo(path) if path else Look()
        return "", *shown(answers.find_hands(look, "", predictor, finder))

    def boxed(look, box):
        return shown(answers.find_hands(look, box, predictor, finder))

    def clicked(look, box, pair, stage, event: gradio.SelectData):
        look, drawn = answers.click(look, event.index)
        return (drawn, *boxed(look, drawn)) if drawn else (box, *shown(look, pair, stage))

    with gradio.Blocks(
        title="Two hands from one photograph",
        analytics_enabled=False,
        delete_cache=(KEPT // 10, KEPT),
    ) as page:
        look = gradio.State(Look(), time_to_live=KEPT)
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(
                    label="Photo", type="filepath", sources=["upload", "webcam", "clipboard"],
                    elem_id="photo", buttons=[],
                )  # fmt: skip
                # The file as it came: Gradio would decode it, with decoders that we do not admit.
                photo.preprocess = lambda upload: upload and upload.path
                box = gradio.Textbox(
                    label="Box around both hands: x,y,width,height in pixels",
                    placeholder="empty: the hands are looked for",
                    elem_id="box",
                )
                if examples:
                    gradio.Examples(
                        [[str(path)] for path in examples], photo, label="Synthesised photographs"
                    )
            with gradio.Column():
                picture = gradio.Image(
                    label="Hands over the photo", interactive=False, format="png",
                    elem_id="picture", buttons=["download", "fullscreen"],
                )  # fmt: skip
                text = gradio.Markdown("Choose a photo of hands.", elem_id="text")
            with gradio.Column():
                model = gradio.Model3D(
                    label="Both hands in 3D",
                    interactive=False,
                    elem_id="model",
                    height=420,
                    camera_position=(None, None, 0.6),  # metres: half a metre fits across
                )
                stage = gradio.Slider(
                    0, 1, step=1, label="Stage of the refinement (0: first estimate)",
                    visible=False, elem_id="stage",
                )  # fmt: skip
                pair = gradio.Radio([], label="Pair of hands", visible=False, elem_id="pair")
        results = [look, picture, model, text, stage, pair]
        busy = {"concurrency_id": "network", "api_visibility": "private"}
        photo.change(opened, photo, [box, *results], **busy)
        box.submit(boxed, [look, box], results, **busy)
        picture.select(clicked, [look, box, pair, stage], [box, *results], **busy)
        for chosen in (stage, pair):
            chosen.input(shown, [look, pair, stage], results, **busy)
    return page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)


@contextlib.contextmanager
def serving(predictor: Predictor, finder: Finder, port=None, share=False) -> Iterator[list[str]]:
    """Serves the page until the block ends, and then removes all that was uploaded or made.

    Yields:
      Its addresses, the public one last if there is one.

    Raises:
      OSError: the port is taken.
    """
    hosted = "SPACE_ID" in os.environ  # on Hugging Face, whose proxy decides who gets here
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="dir_jax_demo_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        import gradio
        from starlette.middleware import Middleware

        page = build(predictor, finder, folder)
        guard = [] if hosted else [Middleware(LocalOnly, share=share)]
        try:
            _, address, public = page.launch(
                server_name="0.0.0.0" if hosted else "127.0.0.1",
                server_port=port,
                share=share,
                max_file_size=LARGEST_UPLOAD,
                app_kwargs={"middleware": guard},
                state_session_capacity=SESSIONS,
                theme=gradio.themes.Default(
                    font=["system-ui", "sans-serif"], font_mono=["monospace"]
                ),
                prevent_thread_lock=True,
                quiet=True,
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                footer_links=[],
            )
            yield [address, public] if public else [address]
        finally:
            page.close(verbose=False)
            os.environ.pop("GRADIO_TEMP_DIR")
            os.environ.update({} if before is None else {"GRADIO_TEMP_DIR": before})


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.demo", description="A page to try photographs on."
    )
    add_model_arguments(parser)
    parser.add_argument("--port", type=int, metavar="N", help="default: a free one from 7860 on")
    parser.add_argument(
        "--share", action="store_true", help="also a public address, by Gradio, for a week"
    )
    arguments = parser.parse_args(argv)
    import gradio  # noqa: F401  # is it installed? asked before anything is loaded

    keep_compiled()
    predictor = Predictor(load_named_model(arguments), batch_size=1)
    finder = detected(HandDetector().hands)
    with sigterm_interrupts(), serving(predictor, finder, arguments.port, arguments.share) as where:
        print(f"Open {' or '.join(where)} (Ctrl-C ends)", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`radscribe app`: a page to drop the films of a study on, and see the report arrive and what each word comes from.

The same page is the Hub Space of hub_cards/space. Films are held in memory, in the session of who sent them, for half
an hour at most; nothing of them is written but the upload itself, which app_uploads.py removes as it is read.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

try:
    import gradio as gr
except ImportError as error:
    raise ImportError("The page needs Gradio: pip install radscribe[demo]") from error
import numpy as np
from gradio.utils import get_upload_folder
from gradio_client.utils import traverse
from PIL import Image
from starlette.middleware import Middleware

from .app_uploads import MOST_BYTES, PrivateUploads, is_upload, take_films
from .build import SHIPPED, load_checkpoint
from .drafts import Words, count_drafts, follow_report
from .errors import one_line
from .explain import Explanation
from .facts import TrainingFacts
from .page.explain_page import data_url, explanation_html, explanation_json
from .processes import this_process

SPACE = SHIPPED / "space"
MODELS = ("mcsam-iu-xray-small", "uar-iu-xray-small")
KEPT = 1800  # seconds that a session's films are held
SESSIONS, WAITING = 32, 16  # that are held at once, and that wait for the models
PREVIEW = 512  # pixels of a film's longer side before there is a report
CLAIM = "Research software. Not a medical device, not a diagnosis."
EXAMPLES = {"Phantom 1": "phantom_1", "Phantom 2": "phantom_2"}
_ON_EXAMPLES = (
    "Phantoms are drawings made by radscribe. The shipped models have learnt from real films alone: what they write "
    "for a phantom shows how the page works, and means nothing."
)
# The viewer is a document of no origin, which cannot see whether the page around it is dark: it asks.
_TELL_DARK = """() => addEventListener("message", (event) => {
  if (event.data !== "radscribe: dark?") return;
  const tell = () => event.source?.postMessage({ radscribeDark: document.body.classList.contains("dark") }, "*");
  new MutationObserver(tell).observe(document.body, { attributeFilter: ["class"] });
  tell();
})"""
_STYLE = Path(__file__).parent / "page" / "app.css"

Study = list[Image.Image]


class _Page(gr.Blocks):
    """Blocks that answer whatever goes wrong with one line, and write nothing of a user's into the log."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        traverse(inputs, _refuse_path, _names_path)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            if os.environ.get("RADSCRIBE_DEBUG"):
                raise
            print(f"radscribe app: a request ended in {type(error).__name__}", file=sys.stderr)
            raise gr.Error("This request could not be answered.", print_exception=False) from None


def _refuse_path(file: dict[str, Any]) -> dict[str, Any]:
    """Gradio would fetch an address, and trip over a folder, that stands in the place of an uploaded file."""
    if not is_upload(str(file["path"]), get_upload_folder()):
        raise gr.Error("Send files by the upload route.", print_exception=False)
    return file


def _names_path(value: Any) -> bool:
    return isinstance(value, dict) and "path" in value


class _Desk:
    """What the page does with its models, for one study at a time; nothing of a study stays in it."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = {Path(name).name: _load(name) for name in models}
        if len(self.models) != len(models):
            raise ValueError(f"Give each model once, and models of different names. Got {', '.join(models)}.")
        self.lock = threading.Lock()
        self.most = max(network.config.max_views for network, *_ in self.models.values())

    def take(self, files: list[dict[str, Any]] | None, study: Study) -> tuple[None, Study, str, str]:
        """Files that were dropped -> an empty drop zone, the study, its pictures, a line.

        They are a study of their own, so that films of two patients do not meet; where one is bad the old one stays.
        """
        try:
            study = take_films(_paths(files), self.most)
        except ValueError as error:
            return None, study, show_films(study), alert(error)
        return None, study, show_films(study), say(f"{len(study)} film{'s' if len(study) > 1 else ''} ready.")

    def take_example(self, name: str) -> tuple[Study, str, str]:
        """A study of phantoms, its pictures, and what to think of it."""
        paths = [SPACE / "examples" / f"{EXAMPLES[name]}_{view}.png" for view in ("frontal", "lateral")]
        films = [Image.open(path).convert("L") for path in paths][: self.most]
        return films, show_films(films), say(_ON_EXAMPLES)

    def write(self, study: Study, model: str) -> Iterator[dict[str, str]]:
        """Line, draft and viewer as the report arrives: words of a draft, the report, then what it comes from."""
        drafts, started = count_drafts(self.models[model][0]), time.monotonic()
        first, chosen = "The report is being written.", "Written"
        if drafts > 1:
            first = f"Draft 1 of {drafts}. The report will be the one of them that fits the films best."
            chosen = f"Chosen of {drafts} drafts"
        yield {"line": say(first), "draft": "", "viewer": ""}
        try:
            for step in self._follow(study, model):
                seconds = f"{time.monotonic() - started:.1f} s"
                if isinstance(step, Explanation):
                    line = say(f"{model}, {seconds}. Choose a word or sentence to see where it comes from.")
                    yield {"line": line, "draft": "", "viewer": _frame(explanation_html(step))}
                elif step.is_report:
                    line = say(f"{chosen} in {seconds}. Now looking for where each word comes from.")
                    yield {"line": line, "draft": f'<p class="report">{escape(step.text)}</p>'}
                else:
                    yield {"draft": f"<p>{escape(step.text)}</p>"}
        except ValueError as error:
            yield {"line": alert(error), "draft": "", "viewer": ""}

    def report(self, files: list[dict[str, Any]] | None, model: str) -> tuple[str, dict[str, Any]]:
        """Write the report of one study.

        Args:
            files: the views of the study, PNG, JPEG, DICOM, or a zip of them.
            model: name of one of the page's models.

        Returns:
            The report, and all that is known of where it comes from.
        """
        try:
            films = take_films(_paths(files), self.most)
            if model not in self.models:
                raise ValueError(f"`model` must be one of {', '.join(self.models)}.")
            explanation: Any = [*self._follow(films, model)][-1]
        except ValueError as error:
            raise gr.Error(one_line(error), print_exception=False) from None
        return explanation.report, explanation_json(explanation) | {"claim": CLAIM}

    def _follow(self, study: Study, model: str) -> Iterator[Words | Explanation]:
        if not study:
            raise ValueError("Add a film first.")
        with self.lock:  # the queue lets one in at a time, but a stopped one may still be at its last step
            network, processor, facts = self.models[model]
            yield from follow_report(network, processor, study, facts, model)


def _load(name: str) -> tuple[Any, Any, TrainingFacts | None]:
    network, processor = load_checkpoint(name)
    return network.to(this_process().device).eval(), processor, TrainingFacts.load(name)


def _paths(files: list[dict[str, Any]] | None) -> list[Path]:
    return [Path(file["path"]) for file in files or []]


def say(line: str) -> str:
    return f'<p class="line" role="status">{escape(line)}</p>'


def alert(error: Exception) -> str:
    return f'<p class="line problem" role="alert">{escape(one_line(error))}</p>'


def show_films(study: Study) -> str:
    """The films of a study side by side, or room for them."""
    if not study:
        return '<p class="faint">The films of the study will stand here.</p>'
    return f'<div class="films">{"".join(map(_picture, study))}</div>'


def _picture(film: Image.Image) -> str:
    small = data_url(np.asarray(film).clip(0, 255).astype(np.uint8), PREVIEW)
    return f'<img src="{small}" alt="A film of the study, {film.width} by {film.height} pixels">'


def _frame(document: str) -> str:
    """The viewer as a document of no origin: its script reaches nothing of the page, and no server."""
    return (
        '<iframe title="The report, and where each word comes from" sandbox="allow-scripts allow-downloads" '
        f'allow="clipboard-write" class="viewer" srcdoc="{escape(document)}"></iframe>'
    )


def build_page(models: Sequence[str] = MODELS) -> gr.Blocks:
    """The page, its models loaded. It takes files by `PrivateUploads` alone: start it with `run_page` or `serve`.

    Raises:
        ValueError: no such model, or two of one name.
    """
    desk = _Desk(models)
    with _Page(title="radscribe", analytics_enabled=False, delete_cache=(60, 600)) as page:
        study = gr.State([], time_to_live=KEPT)
        gr.HTML(f'<h1>radscribe</h1><p class="claim">{CLAIM}</p>')
        with gr.Row(elem_id="asking"):
            with gr.Column(scale=5):
                files = gr.File(file_count="multiple", label="Films", height=150, elem_id="drop")
                hint = f"All views of one study together, up to {desk.most}: PNG, JPEG, DICOM, or a zip of them."
                gr.HTML(f'<p class="faint">{hint}</p>')
                with gr.Row():
                    examples = [gr.Button(name, size="sm", min_width=60) for name in EXAMPLES]
                    again = gr.Button("New study", size="sm", min_width=60)
            with gr.Column(scale=6):
                model = gr.Radio(list(desk.models), value=next(iter(desk.models)), label="Model")
                with gr.Row():
                    start = gr.Button("Write the report", variant="primary", elem_id="start", scale=3)
                    stop = gr.Button("Stop", elem_id="stop", min_width=60)
                line = gr.HTML(say("Add the films of a study, or try a phantom."), elem_id="line")
        with gr.Row(elem_id="desk") as waiting:
            films = gr.HTML(show_films([]), elem_id="films")
            draft = gr.HTML("", elem_id="draft")
        viewer = gr.HTML("", elem_id="viewer")

        shown = [line, draft, viewer, waiting]

        def write(study: Study, model: str) -> Iterator[dict[Any, Any]]:
            for step in desk.write(study, model):
                parts = {"line": line, "draft": draft, "viewer": viewer}
                done = {waiting: gr.Row(visible=not step["viewer"])} if "viewer" in step else {}
                yield {parts[name]: value for name, value in step.items()} | done

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        fresh = {"fn": lambda: ("", "", gr.Row(visible=True)), "outputs": [draft, viewer, waiting]} | quiet
        limits: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1}
        writing = start.click(write, [study, model], shown, **quiet, **limits)
        writing.then(None, js="() => document.querySelector('iframe.viewer')?.scrollIntoView()")
        stop.click(lambda: (say("Stopped."), ""), None, [line, draft], cancels=[writing], **quiet)
        # What is still being written is of the study before, and must not arrive beside the films of the next.
        other: dict[str, Any] = quiet | {"cancels": [writing]}
        files.upload(desk.take, [files, study], [files, study, films, line], preprocess=False, **other).then(**fresh)
        for example in examples:
            example.click(desk.take_example, example, [study, films, line], **other).then(**fresh)
        empty: tuple[Study, str, str] = ([], show_films([]), say("Add the films of a study, or try a phantom."))
        again.click(lambda: empty, None, [study, films, line], **other).then(**fresh)
        page.load(None, js=_TELL_DARK)
        _add_endpoint(desk, model, limits)
    return page.queue(max_size=WAITING, default_concurrency_limit=2)


def _add_endpoint(desk: _Desk, model: gr.Radio, limits: dict[str, Any]) -> None:
    """`/report` for programs (docs/serving.md): files and a model's name to the report and its explanation."""
    given = gr.File(file_count="multiple", visible=False, label="files")
    answers = [gr.Textbox(visible=False, label="report"), gr.JSON(visible=False, label="explanation")]
    gr.Button(visible=False).click(desk.report, [given, model], answers, api_name="report", preprocess=False, **limits)


def _theme() -> gr.themes.Base:
    """The viewer's colours, and the system's own fonts: Gradio's would come from Google."""
    plain = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    names = (
        "button_primary_background_fill",
        "button_primary_background_fill_hover",
        "checkbox_background_color_selected",
    )
    colours = dict(zip(names, ("#0a6c86", "#085a70", "#0a6c86"), strict=True))
    dark = {f"{name}_dark": colour for name, colour in colours.items()}
    return plain.set(**colours, **dark, body_background_fill="#ffffff", body_background_fill_dark="#14171a")


def _launch(page: gr.Blocks, folder: Path, host: str | None, port: int | None) -> None:
    """Start answering; uploads go to `folder`."""
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=MOST_BYTES,
            state_session_capacity=SESSIONS,
            share=False,
            run_history=False,  # else the browser keeps each report and film
            enable_monitoring=False,
            ssr_mode=False,  # else a Node server is started beside, where Node is
            show_error=True,
            quiet=True,
            footer_links=["api"],
            theme=_theme(),
            css_paths=_STYLE,
            app_kwargs={"middleware": [Middleware(PrivateUploads, folder=folder, kept=page.upload_file_set)]},
            prevent_thread_lock=True,
        )
    except OSError as error:
        if port is None:
            raise
        raise OSError(f"Port {port} is in use. Choose another by --port.") from error


@contextmanager
def run_page(models: Sequence[str] = MODELS, host: str | None = None, port: int | None = None) -> Iterator[gr.Blocks]:
    """The page, answering while this lasts; left-out host and port are Gradio's (127.0.0.1, a free one from 7860 on).

    Raises:
        ValueError: as `build_page`.
        OSError: the port is in use.
    """
    with tempfile.TemporaryDirectory(prefix="radscribe-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(models)
        _launch(page, Path(folder), host, port)
        try:
            yield page
        finally:
            page.close(verbose=False)


def serve(models: Sequence[str] = MODELS, host: str | None = None, port: int | None = None) -> None:
    """`run_page` until it is interrupted or told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that uploads are removed
    with run_page(models, host, port) as page:
        print(f"The page is at {page.local_url} until Ctrl+C. {CLAIM}", flush=True)
        page.block_thread()

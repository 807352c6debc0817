"""The `radscribe` command: one thin sub-command a verb; the work is done in `radscribe.training`.

Every verb prints what it did on stdout; notes, progress and tables of skipped studies go to stderr. With --json stdout
holds one JSON document (or JSON lines, `generate`) and nothing else. Bad input ends with one line and exit code 2;
with RADSCRIBE_DEBUG set in the environment the traceback is shown instead.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_output import print_json, print_result, show_values, written

app = typer.Typer(
    help="Chest X-ray report generation: prepare data, train, generate, evaluate. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
prepare_app = typer.Typer(help="Turn a source of studies into a data set on disk.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a recipe key.")]
Recipe = Annotated[str, typer.Argument(help="Name of a shipped recipe or path of a YAML file.")]
Out = Annotated[Path, typer.Argument(help="New or empty folder for the data set.")]
Target = Annotated[str, typer.Option(help="What is to be written: findings, impression or findings+impression.")]

SHIPPED = "mcsam-iu-xray-small"  # of hub_cards/: trained by us on IU X-ray

# Of `evaluate` and `compare`.
References = Annotated[Path, typer.Option(help="Prepared data set with the true reports.")]
Split = Annotated[str, typer.Option(help="Split the predictions were made for.")]
ProtocolName = Annotated[str, typer.Option(help="r2gen, full or coco.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Studies without a prediction count as empty reports.")
]
CheXbert = Annotated[Path | None, typer.Option(help="chexbert.pth, to label in place of the rules.")]
Vocabulary = Annotated[str, typer.Option(help="CheXbert's words: folder, vocab.txt or name.")]
MaxWords = Annotated[int | None, typer.Option(min=1, help="r2gen; left out: as `prepare` stored.")]
MinFrequency = Annotated[int | None, typer.Option(min=1, help="r2gen; left out: as `prepare` stored.")]
Style = Annotated[str | None, typer.Option(help="Cleaning rules, iu or mimic; left out: as stored.")]


def _with_facts(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """What a reader returned, with a row of facts for each split of the data set that it left at `out`."""
    from .training.readers.summary import describe

    return result | {"rows": describe(out)}


@prepare_app.command("phantom")
def prepare_phantom(
    out: Out,
    studies: Annotated[int, typer.Option(min=3, help="Total over the splits.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed draws the same phantoms, bit by bit.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic chest phantoms with known findings and reports that state them."""
    from .training.readers.phantom import write_phantoms

    print_result(
        lambda: _with_facts({"kept": write_phantoms(out, studies, seed), "out": out}, out),
        show_values,
        as_json,
    )


@prepare_app.command("iu-xray")
def prepare_iu_xray(
    src: Annotated[Path, typer.Argument(help="Open-i, Kaggle or R2Gen folder, or studies.jsonl with images.")],
    out: Out,
    target: Target = "findings",
    split_from: Annotated[
        Path | None, typer.Option(help="R2Gen's annotation.json, whose split is taken (Open-i, Kaggle).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the 70/10/20 split where there is none.")] = 0,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Count broken studies, do not stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read IU X-ray from any of its public layouts, or your own studies from studies.jsonl."""
    from .training.readers.iu_xray import prepare_iu_xray as prepare

    print_result(
        lambda: _with_facts(prepare(src, out, skip_broken, target, split_from, seed), out),
        show_values,
        as_json,
    )


@prepare_app.command("mimic-cxr")
def prepare_mimic_cxr(
    src: Annotated[Path, typer.Argument(help="Folder of MIMIC-CXR-JPG: files/, split and metadata csv or csv.gz.")],
    out: Annotated[Path, typer.Argument(help="New or empty folder, or one that this very command had begun.")],
    reports: Annotated[
        Path | None, typer.Option(help="Zip or folder of MIMIC-CXR's reports, or mimic_cxr_sectioned.csv; else SRC.")
    ] = None,
    views: Annotated[str, typer.Option(help="frontal (one), all (frontal first) or first (as R2Gen).")] = "frontal",
    target: Target = "findings",
    processes: Annotated[int | None, typer.Option(min=1, help="One a core where left out.")] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Also write OUT/parquet: shards with the images.")] = False,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Count broken studies, do not stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read MIMIC-CXR-JPG with its reports; killed, the same command goes on where it ended."""
    from .training.readers.mimic_cxr import prepare_mimic_cxr as prepare

    options: dict[str, Any] = {"views": views, "target": target, "processes": processes, "skip_broken": skip_broken}
    print_result(
        lambda: _with_facts(prepare(src, out, reports=reports, embed=embed, **options), out),
        show_values,
        as_json,
    )


@app.command()
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in output_dir.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model by a recipe."""
    from .training.train import train as work

    print_result(lambda: work(recipe, overrides or [], resume=resume), show_values, as_json)


@app.command()
def ablate(recipe: Recipe, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train a recipe with one part changed at a time."""
    from .training.ablate import ablate as work

    print_result(lambda: work(recipe, overrides or []), show_values, as_json)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Folder of a trained model, or its name on the Hub.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    results: Annotated[Path | None, typer.Option(help="What `evaluate --json` printed, for the card.")] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Weights of half the size, rounded: score the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a flat Hub folder that loads with and without this package."""
    from .training.export_hub import export as work

    print_result(lambda: work(run, out, results, bf16), show_values, as_json)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `radscribe export` wrote.")],
    repo_id: Annotated[str, typer.Argument(help='Repository on the Hub, "user/name"; made where missing.')],
    private: Annotated[bool, typer.Option("--private", help="Where it is made: for you alone.")] = False,
    tag: Annotated[str | None, typer.Option(help="Of this version; left out: v and the package's version.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload an exported model to the Hub as one commit, and tag it."""
    from importlib.metadata import version

    from .training.push import push as work

    print_result(lambda: work(folder, repo_id, tag or f"v{version('radscribe')}", private), show_values, as_json)


@app.command()
def generate(
    images: Annotated[list[Path] | None, typer.Argument(help="Views of ONE study: files, folder or zip.")] = None,
    model: Annotated[
        str, typer.Option(help="Folder of a trained model, its name on the Hub, or one that comes with the package.")
    ] = SHIPPED,
    dataset: Annotated[Path | None, typer.Option(help="Prepared data set to write reports for.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    shuffle_images: Annotated[
        int | None, typer.Option(metavar="SEED", help="Control: every study gets another one's images.")
    ] = None,
    nearest_neighbour: Annotated[
        bool, typer.Option("--nearest-neighbour", help="Control: the report of the training study seen nearest.")
    ] = False,
    bf16: Annotated[
        bool,
        typer.Option("--bf16", help="Half precision: faster where the machine has it; now and then another word."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help='JSON lines {"id", "report"}.')] = None,
    as_json: AsJson = False,
) -> None:
    """Write reports for one study's images or a split."""
    from .training.generate import generate as work

    options: dict[str, Any] = {"images": images or [], "dataset": dataset, "split": split, "model": model, "out": out}
    options |= {"shuffle_images": shuffle_images, "nearest_neighbour": nearest_neighbour, "bf16": bf16}
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        rows = work(**options)
    if out is not None:
        done = {"out": out, "studies": len(rows)}
        print_json(done) if as_json else print(f"Wrote {len(rows):,} reports to {out}")
        return
    for row in rows:
        print_json(row) if as_json else print(f"{row['id']}\n{row['report']}\n")


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(help="Views of ONE study: files, folder or zip.")],
    model: Annotated[str, typer.Option(help="As of `generate`.")] = SHIPPED,
    report: Annotated[str | None, typer.Option(help="Text to explain in place of the model's own report.")] = None,
    png: Annotated[
        Path | None, typer.Option(help="Picture to save: a row a sentence, its heat over the films.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Page to save: words to click, all of the below.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where in the films, and in the memory, a report's words come from."""
    from .training.page.explain_page import explain_to_files as work

    print_result(lambda: work(images, model, report, png, html), _show_explanation, as_json)


def _show_explanation(result: dict[str, Any]) -> None:
    """Sentences, what the decoder was told and the memory's rows, without the heat's numbers."""
    print(result["report"])
    for warning in result["warnings"]:
        print(warning, file=sys.stderr)
    told = [f"{o['name']} {written(o['probability'])}" for o in result["observations"] if o["told"]]
    topics = {f"memory row {t['row']}": ", ".join(word for word, _ in t["words"]) for t in result["topics"]}
    shown = {
        "cosine of films and report": result["similarity"],
        "told to the decoder": ", ".join(told) or None,
    } | topics
    show_values(
        {name: value for name, value in shown.items() if value is not None}
        | {
            "rows": [
                {"sentence": s["text"], "confidence": s["confidence"], "training": s["common"] or None}
                for s in result["sentences"]
            ]
        }
    )


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="JSON lines that `radscribe generate --out` wrote.")],
    references: References,
    split: Split = "test",
    protocol: ProtocolName = "r2gen",
    control: Annotated[Path | None, typer.Option(help="Predictions of `generate --shuffle-images`.")] = None,
    neighbours: Annotated[Path | None, typer.Option(help="Predictions of `generate --nearest-neighbour`.")] = None,
    allow_missing: AllowMissing = False,
    resamples: Annotated[int, typer.Option(min=0, help="Of the bootstrap; 0 for no intervals.")] = 1000,
    chexbert: CheXbert = None,
    chexbert_vocabulary: Vocabulary = "bert-base-uncased",
    max_words: MaxWords = None,
    min_frequency: MinFrequency = None,
    style: Style = None,
    html: Annotated[Path | None, typer.Option(help="Page to save: all of it, with figures and studies.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG to save: films, report and truth of the samples.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Reports to print beside the truth.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Score reports beside answers that saw no film."""
    from rich.console import Console

    from .training.score import evaluate as work
    from .training.score_tables import show_result

    options: dict[str, Any] = {"control": control, "neighbours": neighbours, "allow_missing": allow_missing}
    options |= {"resamples": resamples, "chexbert": chexbert, "chexbert_vocabulary": chexbert_vocabulary}
    options |= {"max_words": max_words, "min_frequency": min_frequency, "style": style}
    options |= {"sheet": sheet, "html": html, "samples": samples}
    show = lambda result: show_result(result, Console())  # noqa: E731
    print_result(lambda: work(predictions, references, split, protocol, **options), show, as_json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Predictions of one system.")],
    b: Annotated[Path, typer.Argument(help="Predictions of another, for the same studies.")],
    references: References,
    split: Split = "test",
    protocol: ProtocolName = "r2gen",
    rounds: Annotated[int, typer.Option(min=1, help="Of the randomisation.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the randomisation.")] = 0,
    allow_missing: AllowMissing = False,
    chexbert: CheXbert = None,
    chexbert_vocabulary: Vocabulary = "bert-base-uncased",
    max_words: MaxWords = None,
    min_frequency: MinFrequency = None,
    style: Style = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether two systems differ by more than chance."""
    from rich.console import Console

    from .training.compare import compare as work
    from .training.compare import show

    options: dict[str, Any] = {"rounds": rounds, "seed": seed, "allow_missing": allow_missing}
    options |= {"chexbert": chexbert, "chexbert_vocabulary": chexbert_vocabulary}
    options |= {"max_words": max_words, "min_frequency": min_frequency, "style": style}
    print_result(
        lambda: work(a, b, references, split, protocol, **options), lambda result: show(result, Console()), as_json
    )


@app.command("app")
def show_page(
    model: Annotated[list[str] | None, typer.Option(help="Again for another; left out: the package's two.")] = None,
    host: Annotated[str, typer.Option(help="Address to answer at; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Open a page for films: the report as it is written, and what each word comes from."""
    from .training.app import MODELS, serve

    serve(model or MODELS, host, port)


def _quiet_transformers() -> None:
    """Its notes are for programmers: missing keys that are tied, bars for loading and saving."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main() -> None:
    """Entry point: turns errors about the user's input into one line and exit code 2."""
    debug = bool(os.environ.get("RADSCRIBE_DEBUG"))
    if not debug:
        warnings.simplefilter("ignore")
        _quiet_transformers()
    try:
        app(prog_name="radscribe")
    except Exception as error:
        from .training.errors import REQUEUE, Stopped, one_line

        if isinstance(error, Stopped):
            print(error, file=sys.stderr)
            sys.exit(REQUEUE)
        if debug or not isinstance(error, (ValueError, OSError, ImportError)):
            raise
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""What a run writes while it learns: films and reports of a few validation studies, for TensorBoard."""

from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from .data import StudyFilms

SHOWN = 4  # studies


class ShowSamples(TrainerCallback):
    """At each evaluation the reports of the first validation studies beside the true ones; their films once.

    Args:
        trainer: whose TensorBoard shows them, where `report_to` names it.
        films: the validation studies.
        written: the latest reports, filled by `report_metrics`.
    """

    def __init__(self, trainer: Trainer, films: StudyFilms, written: list[str]) -> None:
        self.trainer, self.films, self.written = trainer, films, written
        self.has_shown_films = False

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        boards = [board for board in self.trainer.callback_handler.callbacks if isinstance(board, TensorBoardCallback)]
        if not state.is_world_process_zero or not boards or boards[0].tb_writer is None:
            return
        writer = boards[0].tb_writer
        rows = [f"| {i} | {written} | {self.films.findings[i]} |" for i, written in enumerate(self.written[:SHOWN])]
        writer.add_text(
            "reports", "\n".join(["| study | written | true |", "|---|---|---|", *rows]), state.global_step
        )
        if self.has_shown_films:
            return
        self.has_shown_films = True
        for i in range(min(SHOWN, len(self.films))):
            film = self.films.read_film(i, 0).convert("L")
            film.thumbnail((256, 256))
            writer.add_image(f"films/{i}", np.asarray(film), state.global_step, dataformats="HW")

"""TensorBoard shows what a run writes for a few studies at each evaluation, and their films once."""

from types import SimpleNamespace

import pytest
from PIL import Image
from transformers.integrations import TensorBoardCallback

from radscribe.training.samples import ShowSamples


class Board(TensorBoardCallback):
    """A TensorBoard that keeps what it is given."""

    def __init__(self):
        self.texts, self.images = [], []
        self.tb_writer = SimpleNamespace(
            add_text=lambda tag, text, step: self.texts.append((tag, text, step)),
            add_image=lambda tag, image, step, dataformats: self.images.append((tag, image.shape, step)),
        )


class Films:
    findings = [f"Truth {i}." for i in range(6)]

    def __len__(self):
        return 6

    def read_film(self, index, view):
        return Image.new("L", (300, 200), index)


@pytest.fixture
def show():
    """show(*callbacks): evaluate at step 7 with these callbacks of the trainer, and then at step 9."""

    def run(*callbacks, main=True):
        written = [f"Report {i}." for i in range(6)]
        trainer = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=list(callbacks)))
        shower = ShowSamples(trainer, Films(), written)
        for step in (7, 9):
            shower.on_evaluate(None, SimpleNamespace(is_world_process_zero=main, global_step=step), None)
            written[0] = "Another."

    return run


def test_reports_stand_beside_the_truth_at_each_evaluation(show):
    board = Board()
    show(board)
    assert [(tag, step) for tag, _, step in board.texts] == [("reports", 7), ("reports", 9)]
    first, second = (text for _, text, _ in board.texts)
    assert "| 0 | Report 0. | Truth 0. |" in first and "| 0 | Another. | Truth 0. |" in second
    assert "Report 3." in first and "Report 4." not in first


def test_films_are_shown_once_and_small(show):
    board = Board()
    show(board)
    assert board.images == [(f"films/{i}", (171, 256), 7) for i in range(4)]


def test_without_tensorboard_nothing_happens(show):
    show()


def test_other_processes_show_nothing(show):
    board = Board()
    show(board, main=False)
    assert not board.texts

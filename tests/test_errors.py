"""One line for the user."""

from radscribe.training.errors import one_line


def test_line_breaks_are_folded():
    assert one_line(ValueError("first\n  second")) == "first second"


def test_an_error_of_a_data_loading_process_is_its_own_message():
    text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    assert one_line(ValueError(text + '  File "a.py"\nValueError: `a.jpg` is no image.\n')) == "`a.jpg` is no image."

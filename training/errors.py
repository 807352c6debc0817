"""What a user reads of an error: one line."""

REQUEUE = 85  # exit status of a run that saved itself when it was told to stop: queue it again, with --resume


class Stopped(Exception):  # noqa: N818 - it did what it was told to
    """A run was told to stop, and saved a checkpoint."""


def one_line(error: Exception) -> str:
    """The message without line breaks; of an error in a data-loading process its own message, not the traceback."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())

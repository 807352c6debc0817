"""What a user reads of an error: one line."""


def one_line(error: Exception) -> str:
    """The message without line breaks; of an error in a data-loading process its own message, not the traceback."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())

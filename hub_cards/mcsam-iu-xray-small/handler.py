"""What an Inference Endpoint of the Hub runs: `EndpointHandler(folder)`, called with a request's JSON.

    {"inputs": "<base64 of a film>"}               a study of one view
    {"inputs": ["<base64>", "<base64>"]}           the views of ONE study
    {"inputs": ..., "parameters": {"num_beams": 3}}  in place of what the model's settings say

It stands by itself: an endpoint loads this file alone and has no radscribe, so the model's code comes from the folder.
"""

import base64
from typing import Any

from PIL import Image
from transformers import pipeline

# What a request may ask of `generate()`, and the most: time and memory of an endpoint are shared.
PARAMETERS = {"num_beams": 16, "num_candidates": 64}


class EndpointHandler:
    """One study a request -> `[{"generated_text": report}]`.

    Args:
        path: the folder of an exported model.
    """

    def __init__(self, path: str = "") -> None:
        self.write = pipeline("image-to-text", model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, str]]:
        """The report of one study.

        Raises:
            ValueError: one line: no film, too many, no base64, no image, parameters beyond `PARAMETERS`.
        """
        inputs = data.get("inputs") if isinstance(data, dict) else None
        films = inputs if isinstance(inputs, list) else [inputs]
        if not inputs:
            raise ValueError('`inputs` must be a film or a list of views: {"inputs": "<base64>"}. Got none.')
        settings = _check_parameters(data.get("parameters") or {})
        study = [_read(film, f"`inputs[{number}]`") for number, film in enumerate(films)]
        return self.write([study], generate_kwargs=settings)[0]


def _check_parameters(settings: Any) -> dict[str, int]:
    known = isinstance(settings, dict) and len(settings) <= 1 and set(settings) <= set(PARAMETERS)
    if not known or not all(type(value) is int and 1 <= value <= PARAMETERS[name] for name, value in settings.items()):
        most = ", ".join(f"{name} up to {most}" for name, most in PARAMETERS.items())
        raise ValueError(f"`parameters` may hold one whole number: {most}.")
    # Where a model chooses among candidates, beams alone would change nothing.
    return settings | ({"num_candidates": 1} if "num_beams" in settings else {})


def _read(film: Any, where: str) -> Any:
    """A film as the pipeline takes it: what an endpoint has opened already, or base64 or bytes of a file."""
    if isinstance(film, (bytes, Image.Image)):
        return film
    if not isinstance(film, str):
        raise ValueError(f"{where} must be a film's file as base64. Got {type(film).__name__}.")
    try:
        written = "".join(film.rpartition(",")[2].split())  # behind the comma of a data: URL; lines are joined
        return base64.b64decode(written, validate=True)
    except ValueError as error:
        raise ValueError(f"{where} must be a film's file as base64.") from error

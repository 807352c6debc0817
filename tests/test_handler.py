"""What an Inference Endpoint runs: one study a request, one line for bad input, no radscribe on the machine."""

import base64
import json
import subprocess
import sys

import pytest
from PIL import Image

from radscribe.processing.handler import EndpointHandler
from radscribe.training.generate import generate


@pytest.fixture
def handler():
    """A handler whose model answers with what it was given."""
    made = EndpointHandler.__new__(EndpointHandler)
    made.write = lambda studies, generate_kwargs: [[{"generated_text": (studies, generate_kwargs)}]]
    return made


def encoded(content):
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "inputs", [encoded(b"film"), "data:image/png;base64," + encoded(b"film"), b"film", [encoded(b"film")]]
)
def test_a_film_comes_in_every_form_that_an_endpoint_gives(handler, inputs):
    assert handler({"inputs": inputs}) == [{"generated_text": ([[b"film"]], {})}]


def test_a_list_is_the_views_of_one_study(handler):
    picture = Image.new("L", (8, 8))
    ((answer,),) = (handler({"inputs": [encoded(b"a"), picture], "parameters": {"num_beams": 3}}),)
    assert answer["generated_text"][0] == [[b"a", picture]]


def test_beams_take_the_place_of_the_candidates_that_the_models_settings_ask_for(handler):
    (answer,) = handler({"inputs": encoded(b"a"), "parameters": {"num_beams": 3}})
    assert answer["generated_text"][1] == {"num_beams": 3, "num_candidates": 1}


def test_base64_may_be_broken_into_lines(handler):
    film = bytes(range(256))
    assert handler({"inputs": base64.encodebytes(film).decode()}) == [{"generated_text": ([[film]], {})}]


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"inputs": ""},
        {"inputs": []},
        {"inputs": "/etc/passwd!"},
        {"inputs": 3},
        {"inputs": [[encoded(b"a")]]},
        {"inputs": "aaaa", "parameters": {"num_candidates": 10**9}},
        {"inputs": "aaaa", "parameters": {"num_beams": "3"}},
        {"inputs": "aaaa", "parameters": {"num_beams": 3, "num_candidates": 3}},
        {"inputs": "aaaa", "parameters": {"max_new_tokens": 10}},
        {"inputs": "aaaa", "parameters": {"logits_processor": 1}},
        {"inputs": "aaaa", "parameters": ["num_beams"]},
    ],
)
def test_bad_input_is_one_line(handler, data):
    with pytest.raises(ValueError) as error:
        handler(data)
    assert "\n" not in str(error.value) and "`" in str(error.value)


ENDPOINT = """
import json, sys
sys.modules["radscribe"] = None  # as where the package is not installed
sys.path.insert(0, sys.argv[1])
from handler import EndpointHandler
print(json.dumps(EndpointHandler(sys.argv[1])({"inputs": sys.argv[2:]})))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mcsam", "uar"])
def test_an_export_serves_itself(exports, kind, draw_film, tmp_path):
    films = [draw_film("frontal.png"), draw_film("lateral.png", 40, 48)]
    call = [sys.executable, "-c", ENDPOINT, exports[kind], *(encoded(film.read_bytes()) for film in films)]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    expected = generate(films, None, "test", None, str(exports[kind]), None)[0]["report"]
    assert json.loads(done.stdout or "0") == [{"generated_text": expected}], done.stderr

"""The page without a browser: what uploads become, the report as it is written, one line for whatever is bad."""

import asyncio
import re
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs Gradio: pip install radscribe[demo]")

from starlette.applications import Starlette  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from radscribe.training import app, app_uploads, drafts  # noqa: E402
from radscribe.training.build import load_checkpoint  # noqa: E402
from radscribe.training.explain import Explanation  # noqa: E402
from radscribe.training.generate import generate  # noqa: E402
from tests.tools.hostile_uploads import attack  # noqa: E402


@pytest.fixture
def uploads(tmp_path):
    """A client of the upload route, the folder behind it, and the set that Gradio removes files of."""
    folder, kept = tmp_path / "uploads", set()
    folder.mkdir()
    client = TestClient(app_uploads.PrivateUploads(Starlette(), folder, kept))
    return lambda *files: client.post("/gradio_api/upload", files=[("files", file) for file in files]), folder, kept


@pytest.fixture
def films(draw_film):
    return [draw_film("frontal.png"), draw_film("lateral.png", 40, 48)]


@pytest.fixture(scope="module")
def desk(talkers):
    return app._Desk(list(map(str, talkers)))


BAD = [b"", b"text", b"\x89PNG\r\n\x1a\n cut", b"GIF89a", b"PK\3\4", b"\0" * 128 + b"DICM"]

# Uploads


@pytest.mark.parametrize("name", ["DOE^JOHN.png", "../../evil.png", "<script>.png", "ä😀.png", "a" * 200])
def test_an_upload_has_no_name_on_the_disk(uploads, name):
    post, folder, kept = uploads
    (path,) = post((name, b"film")).json()
    assert re.fullmatch(r"[0-9a-f]{32}", Path(path).name) and Path(path).parent == folder and path in kept
    assert Path(path).read_bytes() == b"film" and stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_two_uploads_of_one_film_are_two_files(uploads):
    post, folder, _ = uploads
    assert len({*post(("a.png", b"film")).json(), *post(("a.png", b"film")).json()}) == 2


@pytest.mark.parametrize(
    "limit, most, status",
    [("MOST_BYTES", 3, 413), ("MOST_BODY", 3, 413), ("MOST_FILES", 1, 400), ("MOST_WAITING", -1, 503)],
)
def test_what_is_too_much_is_one_line_and_leaves_nothing(uploads, monkeypatch, limit, most, status):
    post, folder, _ = uploads
    monkeypatch.setattr(app_uploads, limit, most)
    answer = post(("a.png", b"film"), ("b.png", b"film"))
    assert answer.status_code == status and answer.text.count("\n") == 0 and not list(folder.iterdir())


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path):
    """The client is gone in the middle: no error for the log, and no half of a file."""
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/upload", "headers": headers}
    messages = iter([{"type": "http.request", "body": b"--x\r\n", "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    asyncio.run(app_uploads.PrivateUploads(Starlette(), tmp_path, set())(scope, receive, send))
    assert sent[0]["status"] == 400 and not list(tmp_path.iterdir())


def test_an_upload_that_is_no_form_is_one_line(uploads):
    client = TestClient(app_uploads.PrivateUploads(Starlette(), uploads[1], set()))
    for headers in ({}, {"content-type": "multipart/form-data"}, {"content-type": "multipart/form-data; boundary=x"}):
        answer = client.post("/gradio_api/upload", content=b"--y", headers=headers)
        assert answer.status_code in (200, 400) and "Traceback" not in answer.text


@pytest.mark.parametrize("name", ["", "/", "/..", "/../passwd", "/film.png", "/" + "0" * 31 + "/", "x/" + "0" * 32])
def test_no_other_path_is_taken_for_an_upload(name):
    assert not app_uploads.is_upload("/uploads" + name, "/uploads")
    assert not app_uploads.is_upload("http://127.0.0.1/" + "0" * 32, "/uploads")
    assert app_uploads.is_upload("/uploads/" + "0" * 32, "/uploads")


def test_films_are_read_and_removed(films):
    pixels = [np.asarray(Image.open(path)) for path in films]
    read = app_uploads.take_films(films, 2)
    assert all(np.array_equal(film, own) for film, own in zip(read, pixels, strict=True))
    assert not any(path.exists() for path in films)


def test_a_zip_of_too_many_films_is_refused_before_they_are_decoded(films, monkeypatch):
    monkeypatch.setattr(app_uploads, "read_grey", None)
    with pytest.raises(ValueError, match="at most 1 films here. Got 2"):
        app_uploads.take_films(films, 1)


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_film_is_called_by_its_number_and_removed(films, content):
    films[1].write_bytes(content)
    with pytest.raises(ValueError, match=r"^Upload 2\b") as error:
        app_uploads.take_films(films, 2)
    assert str(films[1]) not in str(error.value) and "\n" not in str(error.value)
    assert not any(path.exists() for path in films)


# Writing


@pytest.mark.parametrize("number", range(2))
def test_the_report_is_the_one_that_generate_writes(number, films, talkers):
    folder = str(talkers[number])
    expected = generate(films, None, "test", None, folder, None)[0]["report"]
    network, processor = load_checkpoint(folder)
    *words, explanation = drafts.follow_report(network.eval(), processor, films, None)
    assert isinstance(explanation, Explanation) and explanation.report == expected
    assert words[-1] == drafts.Words(expected, is_report=True)
    assert len(words) > 2 and not any(one.is_report for one in words[:-1])


def test_a_draft_grows_word_by_word(films, desk):
    network, processor, facts = next(iter(desk.models.values()))
    *words, _, _ = drafts.follow_report(network, processor, films, facts)
    lengths = [len(one.text) for one in words]
    assert lengths == sorted(lengths)


def test_who_stops_listening_ends_the_work(films, desk):
    network, processor, facts = next(iter(desk.models.values()))
    before = threading.active_count()
    following = drafts.follow_report(network, processor, films, facts)
    next(following)
    following.close()
    assert threading.active_count() == before and not network._forward_pre_hooks


def test_candidates_are_said_to_be_drafts(films, talkers):
    desk = app._Desk([str(talkers[0])])
    ((network, *_),) = desk.models.values()
    network.generation_config.num_candidates = 3
    lines = [step["line"] for step in desk.write(list(map(Image.open, films)), talkers[0].name) if "line" in step]
    assert "Draft 1 of 3" in lines[0] and "Chosen of 3 drafts" in lines[-2]


# The page


def test_films_that_are_dropped_are_a_new_study(desk, films):
    old = [Image.new("L", (8, 8))]
    _, study, pictures, line = desk.take([{"path": str(path)} for path in films], old)
    assert len(study) == 2 and old[0] not in study and pictures.count("<img") == 2 and "2 films ready" in line


def test_a_film_too_many_leaves_the_study_as_it_was(desk, draw_film):
    old = [Image.new("L", (8, 8))]
    many = [{"path": str(draw_film(f"{number}.png"))} for number in range(desk.most + 1)]
    _, study, _, line = desk.take(many, old)
    assert study == old and 'role="alert"' in line


def test_no_films_is_one_line(desk):
    *_, last = desk.write([], next(iter(desk.models)))
    assert "Add a film first." in last["line"]


def test_the_viewer_has_no_origin_and_is_no_markup(desk, films):
    *_, last = desk.write([Image.open(films[0])], next(iter(desk.models)))
    assert 'sandbox="allow-scripts allow-downloads"' in last["viewer"] and "<script" not in last["viewer"]


@pytest.mark.parametrize("name", app.EXAMPLES)
def test_the_examples_are_studies(desk, name):
    study, _, line = desk.take_example(name)
    assert [film.size for film in study] == [(224, 224)] * 2 and "Phantoms" in line


def test_an_endpoint_answers_with_the_report_and_why(desk, films):
    report, more = desk.report([{"path": str(path)} for path in films], next(iter(desk.models)))
    assert more["report"] == report and more["claim"] == app.CLAIM and more["heat"]


@pytest.mark.parametrize("files, model", [([], 0), ([{"path": "/gone"}], 0), (["film"], "other")])
def test_an_endpoint_answers_bad_input_with_one_line(desk, films, files, model):
    files = [{"path": str(films[0])}] if files == ["film"] else files
    with pytest.raises(app.gr.Error) as error:
        desk.report(files, list(desk.models)[model] if model == 0 else model)
    assert "\n" not in error.value.message and not error.value.print_exception


def test_two_models_of_one_name_are_refused(checkpoint):
    with pytest.raises(ValueError, match="different names"):
        app.build_page([str(checkpoint), str(checkpoint)])


def test_one_endpoint_is_public(checkpoint):
    page = app.build_page([str(checkpoint)])
    assert list(page.get_api_info()["named_endpoints"]) == ["/report"]
    assert page.analytics_enabled is False


def test_the_command_says_what_is_missing(radscribe, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "radscribe.training.app")
    code, _, error = radscribe("app")
    assert (code, error) == (2, "Error: The page needs Gradio: pip install radscribe[demo]\n")


def test_the_command_refuses_a_model_that_is_not_there(radscribe, tmp_path):
    code, _, error = radscribe("app", "--model", tmp_path / "gone")
    assert code == 2 and error.startswith("Error: No checkpoint at") and error.count("\n") == 1


@pytest.mark.slow
def test_hostile_uploads_get_one_line_and_leave_nothing(talkers):
    rows, left, log = attack(str(talkers[0]))
    assert len(rows) > 45 and left == []
    assert "Traceback" not in log and "SECRET" not in log and "SECRET" not in str(rows)
    assert not [what for what, answer in rows if "radscribe-app-" in answer or "Error" in answer]
    films = {what for what, answer in rows if answer.startswith("a report: ")}
    assert {"CMYK JPEG", "DICOM with a patient's name"} <= films and not [what for what in films if "bomb" in what]


def test_a_film_that_sessions_could_not_hold_is_refused(draw_film, monkeypatch):
    monkeypatch.setattr(app_uploads, "MOST_HELD", 1_000_000)
    film = draw_film("large.png", 1001, 1000)
    with pytest.raises(ValueError, match="^Upload 1 has more than 1 million pixels: too many for this page.$"):
        app_uploads.take_films([film], 2)
    assert not film.exists()

"""MIMIC-CXR on a made-up tree: what every kind of study and every hole becomes, and that a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from radscribe.training.readers import mimic_cxr, staged
from radscribe.training.readers.mimic_cxr import choose_images, prepare_mimic_cxr
from radscribe.training.readers.studies import load_splits
from tests.tools.make_mimic import make_mimic, write_csv, write_report

REPORT = write_report("Lungs are clear.", "No pneumonia.")
SUBJECT = "10000032"


def film(study, position="PA", **changes):
    """A film's row in the split and in the metadata table; None leaves that row out."""
    row = {"study": study, "subject": SUBJECT, "split": "train", "position": position, "description": "", "file": True}
    return row | changes


def write_tree(src, films, reports, labels=()):
    """A MIMIC-CXR-JPG tree of these films ({dicom: film(...)}) and reports ({study: text, bytes or None})."""
    split = [(d, f["study"], f["subject"], f["split"]) for d, f in films.items() if f["split"]]
    head = ("dicom_id", "study_id", "subject_id")
    src.mkdir()
    write_csv(src / "mimic-cxr-2.0.0-split.csv.gz", (*head, "split"), split)
    metadata = [
        (d, f["study"], f.get("other", f["subject"]), f["position"], f["description"]) for d, f in films.items()
    ]
    columns = (*head, "ViewPosition", "PerformedProcedureStepDescription")
    write_csv(src / "mimic-cxr-2.0.0-metadata.csv.gz", columns, [row for row in metadata if row[3] is not None])
    for dicom, row in films.items():
        folder = src / "files" / f"p{row['subject'][:2]}" / f"p{row['subject']}" / f"s{row['study']}"
        folder.mkdir(parents=True, exist_ok=True)
        if row["file"]:
            (folder / f"{dicom}.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    for study, text in reports.items():
        (src / f"files/p10/p{SUBJECT}/s{study}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    if labels:
        write_csv(src / "mimic-cxr-2.0.0-chexpert.csv", ("subject_id", "study_id", "Edema", "Pneumonia"), labels)
    return src


# study -> its films, its report (None: no file), and what it gets: fields of its record, or why it is left out
STUDIES = {
    "50000001": (
        {"a1": {}},
        REPORT,
        {"findings": "Lungs are clear.", "impression": "No pneumonia.", "split": "train"},
    ),
    "50000002": ({"b1": {"position": "LATERAL"}, "b2": {"position": "AP"}}, REPORT, {"views": ["frontal"]}),
    "50000003": ({"c1": {"split": "validate"}}, REPORT, {"split": "val"}),
    "50000004": ({"d1": {"position": "LL"}}, REPORT, "no frontal view"),
    "50000005": ({"e1": {"position": "", "description": "CHEST, PA"}}, REPORT, {"views": ["frontal"]}),
    "50000006": ({"f1": {}}, " IMPRESSION: Clear.\n", "no findings"),
    "50000007": ({"g1": {}}, None, "missing report"),
    "50000008": ({"h1": {"file": False}}, REPORT, "missing image"),
    "50000009": ({"i1": {"split": None}}, REPORT, "no split row"),
    "50000010": ({"j1": {"position": None}}, REPORT, "no metadata row"),
    "50000011": ({"k1": {}, "k2": {"split": "test"}}, REPORT, "two splits"),
    "50000012": ({"l1": {"other": "10000033"}}, REPORT, "two patients"),
    "50000013": ({"m1": {}}, " FINDINGS: Caf\xe9 \x93line\x94.".encode("latin-1"), {"findings": "Café “line”."}),
}
BROKEN = [
    s for s, (*_, got) in STUDIES.items() if isinstance(got, str) and got not in ("no frontal view", "no findings")
]


def write_studies(src, names):
    films = {d: film(name, **change) for name in names for d, change in STUDIES[name][0].items()}
    reports = {name: STUDIES[name][1] for name in names if STUDIES[name][1] is not None}
    return write_tree(src, films, reports, [(SUBJECT, "50000001", "1.0", "-1.0"), (SUBJECT, "50000002", "0.0", "")])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(records by study, what prepare_mimic_cxr answered) for the table above."""
    folder = tmp_path_factory.mktemp("mimic")
    src = write_studies(folder / "src", STUDIES)
    answer = prepare_mimic_cxr(src, folder / "out", processes=1, skip_broken=True)
    records = {row["study_id"]: row for split in load_splits(folder / "out").values() for row in split}
    return records, answer


@pytest.fixture
def source(tmp_path):
    """source("50000001", ...): a tree with these studies of the table above."""
    return lambda *names: write_studies(tmp_path / "src", names or ("50000001",))


@pytest.mark.parametrize("study", [name for name, (*_, got) in STUDIES.items() if isinstance(got, dict)])
def test_each_study_that_can_be_used_gets_its_record(prepared, study):
    record, expected = prepared[0][f"s{study}"], STUDIES[study][2]
    assert {name: record[name] for name in expected} == expected


def test_no_other_study_gets_a_record(prepared):
    assert set(prepared[0]) == {f"s{name}" for name, (*_, got) in STUDIES.items() if isinstance(got, dict)}


def test_every_study_left_out_is_counted_by_its_reason(prepared):
    assert prepared[1]["skipped"] == {got: 1 for *_, got in STUDIES.values() if isinstance(got, str)}


def test_reports_that_are_not_utf_8_are_counted(prepared):
    assert prepared[1]["not_utf8"] == 1


def test_positive_labels_keep_their_name_and_uncertain_ones_say_so(prepared):
    labels = prepared[0]["s50000001"]["labels"]
    assert [(row["name"], row["image"]) for row in labels] == [("Edema", -1), ("Pneumonia/uncertain", -1)]


def test_negative_and_blank_labels_are_left_out(prepared):
    assert prepared[0]["s50000002"]["labels"] == []


def test_paths_are_those_of_the_tree(prepared):
    (path,) = prepared[0]["s50000002"]["images"]
    assert path.endswith(f"/src/files/p10/p{SUBJECT}/s50000002/b2.jpg") and os.path.isfile(path)


@pytest.mark.parametrize("study", BROKEN)
def test_a_broken_study_ends_the_reading_with_its_line(source, tmp_path, study):
    with pytest.raises(ValueError, match=f"Study s{study}[ :].*--skip-broken"):
        prepare_mimic_cxr(source("50000001", study), tmp_path / "out", processes=1)


def test_nothing_is_left_behind_by_a_failure(source, tmp_path):
    with pytest.raises(ValueError, match="missing|no report"):
        prepare_mimic_cxr(source("50000007"), tmp_path / "out", processes=1)
    assert not (tmp_path / "out").exists()


def test_a_source_of_broken_studies_alone_is_no_data_set(source, tmp_path):
    with pytest.raises(ValueError, match=r"no study that can be used \(1 missing report\)"):
        prepare_mimic_cxr(source("50000007"), tmp_path / "out", processes=1, skip_broken=True)


POSITIONS = {"d": "PA", "b": "AP", "a": "", "c": "LATERAL", "e": "PA"}


@pytest.mark.parametrize(
    ("views", "expected"), [("frontal", ["d"]), ("all", ["d", "e", "b", "c", "a"]), ("first", ["a"])]
)
def test_views_choose_the_images(views, expected):
    assert choose_images(POSITIONS, views) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("findings", "Lungs are clear."),
        ("impression", "No pneumonia."),
        ("findings+impression", "Lungs are clear. No pneumonia."),
    ],
)
def test_the_target_stands_under_findings(source, tmp_path, target, expected):
    prepare_mimic_cxr(source(), tmp_path / "out", target=target, processes=1)
    assert load_splits(tmp_path / "out")["train"][0]["findings"] == expected


def test_a_target_that_is_not_the_findings_is_said_aloud(source, tmp_path, capsys):
    prepare_mimic_cxr(source(), tmp_path / "out", target="impression", processes=1)
    assert "`findings` holds: impression" in capsys.readouterr().err


def test_other_sections_stay_as_read_whatever_the_target(source, tmp_path):
    prepare_mimic_cxr(source(), tmp_path / "out", target="impression", processes=1)
    row = load_splits(tmp_path / "out")["train"][0]
    assert (row["impression"], row["indication"], row["comparison"]) == ("No pneumonia.", "Made-up study", "None.")


def read_findings(src, out, **options):
    prepare_mimic_cxr(src, out, processes=1, **options)
    return load_splits(out)["train"][0]["findings"]


def test_reports_are_read_from_a_zip_elsewhere(source, tmp_path):
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as archive:
        archive.writestr(f"files/p10/p{SUBJECT}/s50000001.txt", write_report("From the zip.", ""))
    assert read_findings(source(), tmp_path / "out", reports=tmp_path / "any.zip") == "From the zip."


@pytest.mark.parametrize("name", [".", "files"])
def test_reports_are_read_from_a_folder_elsewhere(source, tmp_path, name):
    report = tmp_path / f"reports/files/p10/p{SUBJECT}/s50000001.txt"
    report.parent.mkdir(parents=True)
    report.write_text(write_report("From the folder.", ""))
    assert read_findings(source(), tmp_path / "out", reports=tmp_path / "reports" / name) == "From the folder."


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_the_sectioned_csv_is_used_in_place_of_the_reports(source, tmp_path, ending):
    src, columns = source("50000007"), ("study", "impression", "findings", "last_paragraph", "comparison")
    write_csv(src / f"mimic_cxr_sectioned{ending}", columns, [("s50000007", "", "From\nthe csv.", "", "")])
    assert read_findings(src, tmp_path / "out") == "From the csv."


def test_a_study_that_the_sectioned_csv_lacks_is_named(source, tmp_path):
    src = source()
    write_csv(src / "mimic_cxr_sectioned.csv", ("study", "impression", "findings"), [("s1", "", "Clear.")])
    with pytest.raises(ValueError, match="Study s50000001 has no row in .*sectioned.csv"):
        prepare_mimic_cxr(src, tmp_path / "out", processes=1)


def test_a_damaged_report_in_the_zip_is_named(source, tmp_path):
    src = source()
    with zipfile.ZipFile(src / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s50000001.txt", REPORT)
    content = bytearray((src / "mimic-cxr-reports.zip").read_bytes())
    content[50:60] = b"\xff" * 10
    (src / "mimic-cxr-reports.zip").write_bytes(content)
    with pytest.raises(ValueError, match="Study s50000001: its report in .* is damaged"):
        prepare_mimic_cxr(src, tmp_path / "out", processes=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "frontal-first"}, "`views` must be one of frontal, all, first"),
        ({"target": "labels"}, "`target` must be one of findings"),
        ({"processes": 0}, "`processes` must be at least 1"),
    ],
)
def test_a_wrong_option_lists_the_right_ones(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepare_mimic_cxr(source(), tmp_path / "out", **options)


def test_a_source_without_a_split_table_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no mimic-cxr-2.0.0-split.csv"):
        prepare_mimic_cxr(tmp_path, tmp_path / "out")


def test_a_source_without_reports_says_where_to_name_them(source, tmp_path):
    src = source()
    (src / "files").rename(tmp_path / "files")
    with pytest.raises(FileNotFoundError, match="--reports"):
        prepare_mimic_cxr(src, tmp_path / "out")


def test_the_command_prints_the_counts(radscribe, source, tmp_path):
    code, out, _ = radscribe("prepare", "mimic-cxr", source(), tmp_path / "out", "--processes", 1, "--json")
    assert code == 0 and json.loads(out)["kept"] == {"train": 1}


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A tree of 30 studies, read in parts of 4."""
    monkeypatch.setattr(mimic_cxr, "PART_STUDIES", 4)
    return make_mimic(tmp_path / "many", 30)


def read_all(out):
    return [row for split in load_splits(out).values() for row in split]


def test_the_number_of_processes_changes_nothing(many, tmp_path):
    for processes in (1, 2):
        prepare_mimic_cxr(many, tmp_path / str(processes), views="all", processes=processes)
    assert read_all(tmp_path / "1") == read_all(tmp_path / "2")


def test_the_part_size_changes_nothing(many, tmp_path, monkeypatch):
    prepare_mimic_cxr(many, tmp_path / "4", processes=1)
    monkeypatch.setattr(mimic_cxr, "PART_STUDIES", 2000)
    prepare_mimic_cxr(many, tmp_path / "2000", processes=1)
    assert read_all(tmp_path / "4") == read_all(tmp_path / "2000")


@pytest.fixture
def interrupted(many, tmp_path, monkeypatch):
    """The tree, an OUT whose making ended before part 3, and the list of the parts made since."""
    made, real = [], mimic_cxr.make_part

    def fail_at_3(source, tables, skip_broken, number):
        if number == 3:
            raise KeyboardInterrupt
        return real(source, tables, skip_broken, number)

    monkeypatch.setattr(mimic_cxr, "make_part", fail_at_3)
    with pytest.raises(KeyboardInterrupt):
        prepare_mimic_cxr(many, tmp_path / "out", processes=1)
    monkeypatch.setattr(mimic_cxr, "make_part", lambda *given: (made.append(given[-1]), real(*given))[1])
    return many, tmp_path / "out", made


def test_a_second_call_repeats_no_part(interrupted):
    src, out, made = interrupted
    prepare_mimic_cxr(src, out, processes=1)
    assert made == [3, 4, 5, 6, 7]


def test_a_second_call_ends_in_the_same_data_set(interrupted, tmp_path):
    src, out, _ = interrupted
    answer = prepare_mimic_cxr(src, out, processes=1)
    whole = prepare_mimic_cxr(src, tmp_path / "whole", processes=1)
    assert read_all(out) == read_all(tmp_path / "whole") and answer["kept"] == whole["kept"]


def test_a_second_call_says_that_it_goes_on(interrupted, capsys):
    src, out, _ = interrupted
    prepare_mimic_cxr(src, out, processes=1)
    assert "3 of 8 parts were done before" in capsys.readouterr().err


def test_a_second_call_with_other_options_is_refused(interrupted):
    src, out, _ = interrupted
    with pytest.raises(ValueError, match=r"begun with other options \(views\)"):
        prepare_mimic_cxr(src, out, views="all", processes=1)


def test_a_table_changed_between_the_calls_is_refused(interrupted):
    src, out, _ = interrupted
    os.utime(src / "mimic-cxr-2.0.0-split.csv.gz")
    with pytest.raises(ValueError, match=r"begun with other options \(tables\)"):
        prepare_mimic_cxr(src, out, processes=1)


def test_a_finished_data_set_is_not_written_over(many, tmp_path):
    prepare_mimic_cxr(many, tmp_path / "out", processes=1)
    with pytest.raises(ValueError, match="already holds files"):
        prepare_mimic_cxr(many, tmp_path / "out", processes=1)


def test_nothing_but_the_data_set_stays(many, tmp_path):
    prepare_mimic_cxr(many, tmp_path / "out", processes=1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dataset_dict.json", "train", "val", "test"}


_CALL = """
import sys, time
from radscribe.training.readers import mimic_cxr, staged
real = mimic_cxr.make_part
def slow(*given):
    time.sleep(0.3)
    return real(*given)
mimic_cxr.PART_STUDIES, mimic_cxr.make_part = 4, slow
mimic_cxr.prepare_mimic_cxr(sys.argv[1], sys.argv[2], processes=2)
"""


@pytest.mark.slow
def test_a_kill_loses_nothing_and_repeats_nothing(many, tmp_path, monkeypatch):
    out = tmp_path / "out"
    call = subprocess.Popen([sys.executable, "-c", _CALL, many, out], stderr=subprocess.DEVNULL)
    while len(list(out.glob(".work/part-*.json"))) < 3:
        assert call.poll() is None
        time.sleep(0.02)
    call.send_signal(signal.SIGKILL)
    call.wait()
    time.sleep(1)  # its workers end with it
    done = {path.name: path.stat().st_mtime_ns for path in out.glob(".work/part-*")}
    whole = [name for name in done if name.endswith(".json")]
    made, after, make, finish = [], {}, mimic_cxr.make_part, staged.assemble

    def look_and_assemble(work, *given):
        after.update({path.name: path.stat().st_mtime_ns for path in work.glob("part-*")})
        return finish(work, *given)

    monkeypatch.setattr(mimic_cxr, "make_part", lambda *given: (made.append(given[-1]), make(*given))[1])
    monkeypatch.setattr(staged, "assemble", look_and_assemble)
    prepare_mimic_cxr(many, out, processes=1)
    assert len(made) == 8 - len(whole) and all(after[name] == done[name] for name in whole)
    prepare_mimic_cxr(many, tmp_path / "whole", processes=1)
    assert read_all(out) == read_all(tmp_path / "whole")


@pytest.mark.slow
def test_workers_end_with_the_process_that_is_killed(many, tmp_path):
    call = subprocess.Popen([sys.executable, "-c", _CALL, many, tmp_path / "out"], stderr=subprocess.DEVNULL)
    children = f"/proc/{call.pid}/task/{call.pid}/children"
    if not os.path.exists(children):
        call.kill()
        pytest.skip("this system does not tell the children of a process")
    while not list((tmp_path / "out").glob(".work/part-*.json")):
        time.sleep(0.02)
    workers = open(children).read().split()
    call.kill()
    call.wait()
    time.sleep(1)
    assert workers and not any(is_running(worker) for worker in workers)


def is_running(process):
    """Whether a process is there and not a zombie that nobody has collected."""
    try:
        return open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

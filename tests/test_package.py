"""The house rules that a machine can check: what is packaged, who may import whom, how long a file may be."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("configuration", "modeling", "processing", "training")
SOURCES = sorted(ROOT.glob("*.py")) + sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]
FLAT = ("configuration", "modeling", "processing")  # exported to the Hub as one flat folder


def imported_folders(path: Path) -> set[str]:
    """The folders of ours that a source file imports from, at any depth of its code ("cli", "training" ...)."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    folders = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parent = package[: len(package) - (node.level - 1)]
            parts = (*parent, *(node.module.split(".") if node.module else [alias.name for alias in node.names]))
            folders.add(parts[0])
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "radscribe":
            folders.add(f"absolute: {node.module}")
        elif isinstance(node, ast.Import):
            folders |= {f"absolute: {alias.name}" for alias in node.names if alias.name.split(".")[0] == "radscribe"}
    return folders


def paths_below(folder: str) -> list[str]:
    return [name for name in NAMES if name.startswith(f"{folder}/")]


def test_packages_are_the_folders_with_an_init():
    listed = re.search(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert listed is not None
    found = {path.parent.relative_to(ROOT) for path in SOURCES if path.name == "__init__.py"}
    expected = {".".join(("radscribe", *folder.parts)) for folder in found}
    assert set(re.findall(r'"(.*?)"', listed.group(1))) == expected


@pytest.mark.parametrize("name", paths_below("configuration"))
def test_configuration_imports_nothing_of_ours(name):
    assert imported_folders(ROOT / name) <= {"configuration"}


@pytest.mark.parametrize("name", paths_below("processing"))
def test_processing_knows_no_model(name):
    assert imported_folders(ROOT / name) <= {"processing"}


@pytest.mark.parametrize("name", paths_below("modeling"))
def test_modeling_knows_configuration_alone(name):
    assert imported_folders(ROOT / name) <= {"configuration", "modeling"}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("training/") and name != "cli.py"])
def test_nothing_but_the_command_line_imports_training(name):
    assert "training" not in imported_folders(ROOT / name)


@pytest.mark.parametrize("name", NAMES)
def test_imports_inside_the_package_are_relative(name):
    assert not [folder for folder in imported_folders(ROOT / name) if folder.startswith("absolute")]


def test_file_names_of_exported_folders_are_unique():
    names = [path.name for path in SOURCES if path.parent.name in FLAT and path.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short(name):
    limit = 600 if name.startswith("modeling/") else 400
    assert len((ROOT / name).read_text().splitlines()) <= limit


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_short(name):
    nodes = ast.walk(ast.parse((ROOT / name).read_text()))
    functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 60] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_docstring_line_looks_like_a_relative_import(name):
    # transformers finds the files to copy with a regular expression over the text, docstrings included
    lines = (ROOT / name).read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    real = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    pattern = re.compile(r"\s*from\s+\.\S*\s+import\b")
    assert [n for n, line in enumerate(lines, start=1) if pattern.match(line) and n not in real] == []


def test_the_type_marker_is_shipped():
    assert (ROOT / "py.typed").exists() and '"py.typed"' in (ROOT / "pyproject.toml").read_text()

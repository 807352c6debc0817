"""The facts of a run name what it was made with, and do without what a machine lacks."""

import json
from importlib.metadata import version

from radscribe.training.environment import environment


def test_versions_are_those_that_are_installed():
    facts = environment()
    assert facts["versions"]["torch"] == version("torch") and facts["processes"] == 1


def test_facts_are_plain_json():
    assert json.loads(json.dumps(environment())) == environment()


def test_an_environment_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["commit"] is None

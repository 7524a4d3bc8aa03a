"""Configurations are found by name and by path, and what is wrong with a file is told."""

import shutil

import pytest

from configs import bc, tasks
from jaxpolicy.core.schema import InputError
from launch import configurations
from tests import layers

CONFIGS = layers.ROOT / "configs"


@pytest.mark.parametrize("name", ["bc", "bc.py", "configs/bc.py"])
def test_shipped_ones_are_found_from_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configurations.find(name) == CONFIGS / "bc.py"
    assert configurations.load(f"{name}:lift") == bc.get_config("lift").to_dict()


def test_a_file_that_exists_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bc.py").write_text("def get_config():\n    return {'name': 'own'}\n")
    assert configurations.load("bc.py") == {"name": "own"}


def test_a_copy_of_a_shipped_file_works_elsewhere_as_it_is(tmp_path):
    copy = shutil.copy(CONFIGS / "dagger.py", tmp_path / "my own-copy.py")
    found = configurations.load(f"{copy}:lift:debug")
    assert found == configurations.load("dagger.py:lift:debug")


def test_a_file_may_define_and_extend(tmp_path):
    text = (
        "import dataclasses\n"
        "from . import bc, common, tasks\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Mine:\n"
        "    horizon: 'int' = 3\n"
        "def full(task):\n"
        "    return dataclasses.replace(bc.full(task), horizon=Mine().horizon)\n"
        "def get_config(variant=''):\n"
        "    return common.select_task({'': full}, variant)\n"
    )
    (tmp_path / "mine.py").write_text(text)
    assert configurations.load(f"{tmp_path}/mine.py:lift")["horizon"] == 3
    with pytest.raises(InputError, match="no variant ':fast'"):
        configurations.load(f"{tmp_path}/mine.py:lift:fast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = (\n", r"line 2: .*was never closed"),
        ("import nothing_of_this_name\n", "line 1: .*No module named"),
        ("def get_config():\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("from configs import gone\n", "line 1: "),
        ("x = 1\n", "no function get_config"),
        ("def get_config():\n    return 3\n", "get_config returned int"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_one_line(tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(InputError, match=message) as e:
        configurations.load(f"{tmp_path}/bad.py")
    assert str(e.value).startswith(f"--config={tmp_path}/bad.py: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("difusion.py", "did you mean diffusion.py?"),
        ("elsewhere/bc.py", "no such file"),
        ("common.py", "no such file"),
        ("zzz", "there are act"),
    ],
)
def test_what_does_not_exist_is_told_with_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        configurations.find(name)


def test_every_shipped_file_says_its_variants():
    found = configurations.listing()
    helpers = {"__init__.py", "common.py", "tasks.py"}
    assert {c.name for c in found} == {p.name for p in CONFIGS.glob("*.py")} - helpers
    for name, summary, variants in found:
        assert summary, name
        assert all(v.startswith(":") for v in variants), name
        assert variants, name
    assert configurations.tasks() == list(tasks.TASKS)

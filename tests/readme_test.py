"""The README's code runs, and the commands and files it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ROAD = re.findall(r"^\| (?:\d|all) .*\|$", README, re.MULTILINE)


def test_the_train_step_example_runs_and_learns():
    [block] = [b for b in BLOCKS if "train_step" in b]
    first = block.replace("range(200)", "range(1)")
    before, after = {}, {}
    exec(compile(first, "README.md", "exec"), before)
    exec(compile(block, "README.md", "exec"), after)
    assert float(after["metrics"]["mse"]) < 0.1 * float(before["metrics"]["mse"])


def test_named_modules_and_files_exist():
    for module in set(re.findall(r"launch\.[a-z]\w*", README)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
    for path in set(re.findall(r"(?:configs|docs|tests/data)/[\w./]+\w", README)):
        assert (ROOT / path).exists(), path


def test_a_row_of_the_road_names_what_exists_under_one_name():
    assert len(ROAD) == 9
    for row in (r for r in ROAD if "not here yet" not in r):
        _, command, file, folders = (re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[1:5])
        for path in (*file, *folders):
            assert (ROOT / "jaxpolicy" / path).exists(), path
        if "pipeline" not in command[0]:
            assert Path(file[0]).stem == command[0].removeprefix("launch.")


def test_stages_that_are_not_here_have_no_code():
    for row in (r for r in ROAD if "not here yet" in r):
        assert "`" not in row, row


def test_python_examples_compile():
    for block in BLOCKS:
        compile(block, "README.md", "exec")

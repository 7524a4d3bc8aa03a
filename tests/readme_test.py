"""The README's code runs, and the commands and files it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_train_step_example_runs_and_learns():
    [block] = [b for b in BLOCKS if "train_step" in b]
    first = block.replace("range(200)", "range(1)")
    before, after = {}, {}
    exec(compile(first, "README.md", "exec"), before)
    exec(compile(block, "README.md", "exec"), after)
    assert float(after["metrics"]["mse"]) < 0.1 * float(before["metrics"]["mse"])


def test_named_modules_and_files_exist():
    for module in set(re.findall(r"launch\.\w+", README)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
    for path in set(re.findall(r"(?:configs|docs|tests/data)/[\w./]+\w", README)):
        assert (ROOT / path).exists(), path


def test_python_examples_compile():
    for block in BLOCKS:
        compile(block, "README.md", "exec")

"""What docs/first_hour.md and docs/recording.md show is run from top to bottom, and works.

In these two pages a block that begins with the name of a file becomes that file, other Python
is executed, commands are run, and what a `text` block shows must be printed by the commands
before it. Commands of all other pages have flags, configurations and keys that exist, their Python
compiles, and all links lead somewhere.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.launch import cli_test

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A(?:#|<!--) ([\w.]+\.(?:py|xml))")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLLOWED = ("first_hour.md", "recording.md")
# What is shown runs for a minute or two; here it only has to run.
SMALLER = {
    "steps=1000, eval_every=100": "steps=8, eval_every=4",
    "EvaluationConfig(n_episodes=100)": "EvaluationConfig(n_episodes=4, n_recorded=1)",
    "CollectConfig(n_episodes=100,": "CollectConfig(n_episodes=10,",
}
# TF Lite takes twice as long as ONNX, and has tests of its own.
FASTER = {"export": ["--config.export.formats=onnx"]}
GATED = 3  # a policy of eight updates is not good enough


class Block(NamedTuple):
    """A fenced block: its language and what it holds."""

    kind: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in FENCE.findall((DOCS / page).read_text())]


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        yield shlex.split(line)


class Reader:
    """Follows a page in the current folder; what its latest commands printed is kept."""

    def __init__(self):
        self.printed, self.namespace = "", {}

    def follow(self, block: Block) -> None:
        if block.kind in ("python", "xml"):
            self.take(block.text)
        elif block.kind == "text":
            for line in block.text.splitlines():
                assert tidy(line) in tidy(self.printed), f"not printed: {line}\n{self.printed}"
        else:
            self.printed = "".join(map(run, commands(block.text)))

    def take(self, text: str) -> None:
        named = FILE.match(text)
        if named is None:
            exec(compile(text, "page", "exec"), self.namespace)
            return
        for shown, smaller in SMALLER.items():
            text = text.replace(shown, smaller)
        Path(named[1]).write_text(text)


def run(command: list[str]) -> str:
    """What a command prints; it must succeed."""
    program, name, *arguments = command
    if program == "pip":  # tests/launch/wheel_test.py installs
        return ""
    if name == "drive.py":
        return without_jax(name)
    known = {"jaxpolicy": f"launch.{name}", "python": name}[program]
    done = cli_test.fork(known, *arguments, *FASTER.get(name, []), cwd=Path.cwd())
    assert done.returncode in ((0, GATED) if name == "evaluate" else (0,)), done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def without_jax(script: str) -> str:
    code = f"import runpy, sys; runpy.run_path('{script}', run_name='__main__')"
    code += "; sys.exit('jax' in sys.modules)"
    command, env = [sys.executable, "-c", code], cli_test.environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tidy(text: str) -> str:
    """One space for each stretch of white space."""
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = Reader()
    for block in blocks(page):
        reader.follow(block)


def test_everything_that_is_made_smaller_is_shown():
    text = (DOCS / "first_hour.md").read_text()
    assert not [shown for shown in SMALLER if shown not in text]


def shown_commands(page: str) -> Iterator[list[str]]:
    """[command, flags ...] of a page that name a configuration."""
    text = "\n".join(b.text for b in blocks(page) if not b.kind)
    for line in re.findall(r"(?:python -m launch\.|jaxpolicy )(.*)", text.replace("\\\n", " ")):
        words = shlex.split(line)
        if any(w.startswith("--config=") for w in words) and "..." not in words:
            yield words


PAGES = ["../README.md", *(p.name for p in sorted(DOCS.glob("*.md")))]
# Others have tests that follow them from top to bottom.
COMMANDS = {
    page: list(shown_commands(page))
    for page in PAGES
    if page not in (*FOLLOWED, "plugins.md", "own_loop.md")
}


@pytest.mark.parametrize("page", [page for page, shown in COMMANDS.items() if shown])
def test_commands_have_flags_configurations_and_keys_that_exist(page):
    for command in COMMANDS[page]:
        done = cli_test.launch(*command, "--print_config")
        assert done.returncode == 0, (command, done.stderr)


def test_python_compiles():
    for page in PAGES:
        for block in blocks(page):
            if block.kind == "python":
                compile(block.text, page, "exec")


def test_links_lead_somewhere():
    dead = [
        f"{page}: {target}"
        for page in (DOCS / name for name in PAGES)
        for target in LINK.findall(page.read_text())
        if "://" not in target and not leads(page, target)
    ]
    assert not dead


def test_files_that_are_named_exist():
    for page in PAGES:
        for name in re.findall(r"`([\w/]+/\w+\.py)`", (DOCS / page).read_text()):
            assert any((ROOT / top / name).exists() for top in ("", "jaxpolicy")), (page, name)


def leads(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    found = page.parent / path if path else page
    return found.exists() and (not anchor or anchor in anchors(found))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text()
    assert not [p.name for p in DOCS.glob("*.md") if p.name != "README.md" and p.name not in index]

"""One place says which versions made something, and never says nothing."""

import subprocess

import jaxpolicy
from jaxpolicy.core import versions

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOLD = f"{jaxpolicy.__version__}+g0123456789ab"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_packages_this_library_and_python():
    found = versions.of(("python", "jaxpolicy", "numpy", "no-such-package"))
    assert found["python"].startswith("3.")
    assert found["jaxpolicy"].startswith(jaxpolicy.__version__)
    assert found["numpy"].count(".") >= 2
    assert found["no-such-package"] == "not installed"


def test_without_a_checkout_it_is_the_version(tmp_path):
    assert versions.library(tmp_path) == jaxpolicy.__version__
    write(tmp_path / "HEAD" / ".git" / "HEAD", "ref: refs/heads/nothing\n")
    assert versions.library(tmp_path / "HEAD") == jaxpolicy.__version__


def test_a_branch_a_packed_branch_and_no_branch(tmp_path):
    write(tmp_path / "a/.git/HEAD", "ref: refs/heads/w/one\n")
    write(tmp_path / "a/.git/refs/heads/w/one", COMMIT + "\n")
    write(tmp_path / "b/.git/HEAD", "ref: refs/heads/main\n")
    packed = f"# pack-refs with: peeled\n{'f' * 40} refs/heads/not/main\n{COMMIT} refs/heads/main\n"
    write(tmp_path / "b/.git/packed-refs", packed)
    write(tmp_path / "c/.git/HEAD", COMMIT + "\n")
    assert [versions.library(tmp_path / n) for n in "abc"] == [TOLD] * 3


def test_a_worktree(tmp_path):
    git = tmp_path / "main" / ".git"
    write(git / "worktrees/w/HEAD", "ref: refs/heads/w\n")
    write(git / "worktrees/w/commondir", "../..\n")
    write(git / "refs/heads/w", COMMIT + "\n")
    write(tmp_path / "w" / ".git", f"gitdir: {git}/worktrees/w\n")
    assert versions.library(tmp_path / "w") == TOLD


def test_as_git_says(tmp_path):
    def git(*args):
        done = subprocess.run(["git", *args], cwd=tmp_path, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    git("init", "-q")
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    git(*name, "commit", "-q", "--allow-empty", "-m", "first")
    assert versions.library(tmp_path) == f"{jaxpolicy.__version__}+g{git('rev-parse', 'HEAD')[:12]}"

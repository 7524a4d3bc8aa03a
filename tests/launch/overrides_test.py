"""--config.KEY=VALUE is told from other flags."""

import pytest

from launch import cli

FLAGS = [
    (["--config.horizon=2"], ["--override=horizon=2"]),
    (["-config.horizon=2"], ["--override=horizon=2"]),
    (["--config.horizon", "2", "--yes"], ["--override=horizon=2", "--yes"]),
    (["--config.temporal_ensemble", "-1"], ["--override=temporal_ensemble=-1"]),
    (["--config.loop.tensorboard", "--yes"], ["--override=loop.tensorboard=true", "--yes"]),
    (["--config.loop.tensorboard"], ["--override=loop.tensorboard=true"]),
    (["--config.grid=a=1;b=2"], ["--override=grid=a=1;b=2"]),
    (["--config=f.py", "--configure"], ["--config=f.py", "--configure"]),
    (["config.horizon=2"], ["config.horizon=2"]),
    (["--", "--config.horizon=2"], ["--", "--config.horizon=2"]),
]


@pytest.mark.parametrize(("given", "wanted"), FLAGS)
def test_overrides_are_told_from_other_flags(given, wanted):
    assert cli._as_flags(["train", *given]) == ["train", *wanted]

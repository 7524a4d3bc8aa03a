import io

from rich.console import Console

from jaxpolicy.training import progress

VALUES = {
    "train/loss": 0.5,
    "val/loss": 0.25,
    "train/action_error_rad": 0.5,
    "val/action_error_rad": 0.1,
    "train/action_error_m": 0.02,
}


def test_summary_prefers_validation_errors():
    expected = "train 0.5  val 0.25  error 0.1000 rad  error 0.0200 m"
    assert progress.summary(VALUES) == expected


def test_summary_of_nothing():
    assert progress.summary({}) == ""


def test_bar_shows_losses_rate_and_count():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    bar = progress.ProgressBar(100, 20, console=console)
    bar.update(50, VALUES | {"steps_per_s": 12.5})
    bar.close()
    text = console.file.getvalue()
    for part in ("50/100", "train 0.5", "val 0.25", "0.1000 rad", "0.0200 m", "12.5 steps/s"):
        assert part in text


def test_lines_on_a_plain_stream():
    console = Console(file=io.StringIO(), force_terminal=False, width=160)
    bar = progress.ProgressBar(100, console=console)
    bar.update(50, VALUES)
    bar.line(50)
    bar.close()
    assert console.file.getvalue().strip().startswith("step     50  train 0.5  val 0.25")


def test_disabled_bar_is_silent():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    bar = progress.ProgressBar(100, enabled=False, console=console)
    bar.update(50, VALUES)
    bar.line(50)
    bar.close()
    assert console.file.getvalue() == ""

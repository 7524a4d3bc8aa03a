import io
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import tfrecord
from jaxpolicy.training import metrics
from jaxpolicy.training.metrics import Video
from tests.training import fixtures


def open_writer(directory, step=0, **loop_values):
    return metrics.open_writer(fixtures.config(**loop_values), directory, step)


def test_rows_come_back(tmp_path):
    writer = open_writer(tmp_path)
    writer.write(5, {"train/loss": 0.5})
    writer.write(10, {"val/loss": 0.25, "n": 3})
    writer.close()
    expected = [{"step": 5, "train/loss": 0.5}, {"step": 10, "val/loss": 0.25, "n": 3.0}]
    assert metrics.read(tmp_path) == expected


def test_every_row_is_on_disk_at_once(tmp_path):
    writer = open_writer(tmp_path)
    writer.write(1, {"a": 1})
    assert len(metrics.read(tmp_path)) == 1
    writer.close()


def test_resume_drops_later_rows_and_a_half_written_line(tmp_path):
    rows = [{"step": s, "loss": 1.0 / s} for s in (4, 8, 12)]
    text = "".join(json.dumps(r) + "\n" for r in rows) + '{"step": 16, "lo'
    (tmp_path / metrics.FILE_NAME).write_text(text)
    writer = open_writer(tmp_path, 8)
    writer.write(12, {"loss": 7})
    writer.close()
    assert metrics.read(tmp_path) == [*rows[:2], {"step": 12, "loss": 7.0}]


def test_a_new_run_starts_an_empty_file(tmp_path):
    (tmp_path / metrics.FILE_NAME).write_text('{"step": 4}\n')
    open_writer(tmp_path, 0).close()
    assert metrics.read(tmp_path) == []


def test_no_file_reads_as_nothing(tmp_path):
    assert metrics.read(tmp_path) == []


def events(directory):
    """All TensorBoard events, in order of the files' names."""
    files = sorted(directory.glob("events.*"))
    records = [r for f in files for r in tfrecord.index(f)]
    return [event_pb2.Event.FromString(tfrecord.read(r)) for r in records]


def test_tensorboard_holds_the_scalars(tmp_path):
    writer = open_writer(tmp_path, tensorboard=True)
    writer.write(3, {"train/loss": 0.5})
    writer.close()
    scalars = [
        (e.step, v.tag, v.simple_value)
        for e in events(tmp_path / "tensorboard")
        for v in e.summary.value
    ]
    assert scalars == [(3, "train/loss", 0.5)]


def test_tensorboard_purges_what_a_killed_run_wrote_beyond_its_checkpoint(tmp_path):
    writer = open_writer(tmp_path, 8, tensorboard=True)
    writer.write(12, {"a": 1})
    writer.close()
    starts = [e.step for e in events(tmp_path / "tensorboard") if e.session_log.status == 1]
    assert starts == [9]


# ------------------------------------------------------------------ videos


def video():
    """Three frames: black, grey, white."""
    frames = np.stack([np.full((4, 6, 3), level, np.uint8) for level in (0, 128, 255)])
    return Video(frames, fps=10.0)


def test_gif_keeps_frames_and_pace():
    gif = Image.open(io.BytesIO(metrics.encode_gif(video())))
    assert (gif.n_frames, gif.size, gif.info["duration"]) == (3, (6, 4), 100)
    for i, level in enumerate((0, 128, 255)):
        gif.seek(i)
        np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), level)


def test_tensorboard_holds_the_video(tmp_path):
    writer = open_writer(tmp_path, tensorboard=True)
    writer.write(3, {"eval/success": 0.5}, {"eval/episodes": video()})
    writer.close()
    values = [v for e in events(tmp_path / "tensorboard") for v in e.summary.value]
    (image,) = [v.image for v in values if v.tag == "eval/episodes"]
    assert (image.height, image.width) == (4, 6)
    assert image.encoded_image_string == metrics.encode_gif(video())
    assert metrics.read(tmp_path) == [{"step": 3, "eval/success": 0.5}]


# ------------------------------------------------------------------ Weights & Biases


class FakeRun:
    def __init__(self):
        self.logged = []
        self.finished = False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """The part of the package that is used."""
    fake = types.ModuleType("wandb")
    fake.run, fake.started = FakeRun(), []
    fake.init = lambda **values: fake.started.append(values) or fake.run
    fake.Video = lambda data, format: (format, data.read())
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_weights_and_biases(tmp_path, wandb):
    writer = open_writer(tmp_path, wandb="grasping")
    writer.write(3, {"train/loss": 0.5}, {"eval/episodes": video()})
    writer.close()
    (started,) = wandb.started
    assert (started["project"], started["name"]) == ("grasping", "tiny")
    assert started["config"]["loop"]["wandb"] == "grasping"
    shown = {"eval/episodes": ("gif", metrics.encode_gif(video()))}
    assert wandb.run.logged == [(3, {"train/loss": 0.5}), (3, shown)]
    assert wandb.run.finished
    assert len(metrics.read(tmp_path)) == 1


def test_weights_and_biases_resumes_its_run(tmp_path, wandb):
    for step in (0, 8, 0):
        open_writer(tmp_path, step, wandb="grasping").close()
    # The second call continues the first; the third begins anew.
    first, second, third = (s["id"] for s in wandb.started)
    assert first == second != third
    assert all(s["resume"] == "allow" for s in wandb.started)


def test_weights_and_biases_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"loop.wandb needs a package; pip install .*wandb"):
        open_writer(tmp_path, wandb="grasping")


def test_tensorboard_whose_thread_died_of_a_full_disk_does_not_hang(tmp_path, monkeypatch):
    settings = fixtures.config(tensorboard=True)
    writer = metrics.open_writer(settings, tmp_path)
    board = writer._sinks[0]._board.file_writer.event_writer
    monkeypatch.setattr(board._worker, "is_alive", lambda: False)
    with pytest.raises(InputError, match="metrics of step 3: cannot write: No space left"):
        writer.write(3, {"train/loss": 1.0})
    monkeypatch.undo()
    writer.close()

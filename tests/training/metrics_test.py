import json

from tensorboardX.proto import event_pb2

from jaxpolicy.data.formats import tfrecord
from jaxpolicy.training import metrics


def test_rows_come_back(tmp_path):
    writer = metrics.MetricsWriter(tmp_path, tensorboard=False)
    writer.write(5, {"train/loss": 0.5})
    writer.write(10, {"val/loss": 0.25, "n": 3})
    writer.close()
    expected = [{"step": 5, "train/loss": 0.5}, {"step": 10, "val/loss": 0.25, "n": 3.0}]
    assert metrics.read(tmp_path) == expected


def test_every_row_is_on_disk_at_once(tmp_path):
    writer = metrics.MetricsWriter(tmp_path, tensorboard=False)
    writer.write(1, {"a": 1})
    assert len(metrics.read(tmp_path)) == 1
    writer.close()


def test_resume_drops_later_rows_and_a_half_written_line(tmp_path):
    rows = [{"step": s, "loss": 1.0 / s} for s in (4, 8, 12)]
    text = "".join(json.dumps(r) + "\n" for r in rows) + '{"step": 16, "lo'
    (tmp_path / metrics.FILE_NAME).write_text(text)
    writer = metrics.MetricsWriter(tmp_path, step=8, tensorboard=False)
    writer.write(12, {"loss": 7})
    writer.close()
    assert metrics.read(tmp_path) == [*rows[:2], {"step": 12, "loss": 7.0}]


def test_a_new_run_starts_an_empty_file(tmp_path):
    (tmp_path / metrics.FILE_NAME).write_text('{"step": 4}\n')
    metrics.MetricsWriter(tmp_path, step=0, tensorboard=False).close()
    assert metrics.read(tmp_path) == []


def test_no_file_reads_as_nothing(tmp_path):
    assert metrics.read(tmp_path) == []


def events(directory):
    """All TensorBoard events, in order of the files' names."""
    files = sorted(directory.glob("events.*"))
    records = [r for f in files for r in tfrecord.index(f)]
    return [event_pb2.Event.FromString(tfrecord.read(r)) for r in records]


def test_tensorboard_holds_the_scalars(tmp_path):
    writer = metrics.MetricsWriter(tmp_path)
    writer.write(3, {"train/loss": 0.5})
    writer.close()
    scalars = [
        (e.step, v.tag, v.simple_value)
        for e in events(tmp_path / "tensorboard")
        for v in e.summary.value
    ]
    assert scalars == [(3, "train/loss", 0.5)]


def test_tensorboard_purges_what_a_killed_run_wrote_beyond_its_checkpoint(tmp_path):
    writer = metrics.MetricsWriter(tmp_path, step=8)
    writer.write(12, {"a": 1})
    writer.close()
    starts = [e.step for e in events(tmp_path / "tensorboard") if e.session_log.status == 1]
    assert starts == [9]

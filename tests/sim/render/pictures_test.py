import sys

import numpy as np
import pytest

from jaxpolicy.sim.render import pictures
from jaxpolicy.sim.render.pictures import Recording


def episode(seed, success, steps=10, size=16):
    shade = np.linspace(0, 255, steps).astype(np.uint8)
    frames = np.broadcast_to(shade[:, None, None, None], (steps, size, size, 3))
    return Recording(seed, success, frames)


def test_contact_sheet_shows_first_to_last_frame_of_each_episode():
    sheet = np.asarray(pictures.contact_sheet([episode(1, True), episode(2, False)], columns=4))
    cell, row = 16 + pictures.MARGIN, 16 + pictures.LABEL_HEIGHT + pictures.MARGIN
    assert sheet.shape == (2 * row, 4 * cell + pictures.MARGIN, 3)
    middle = pictures.LABEL_HEIGHT + 8
    shades = [sheet[middle, pictures.MARGIN + i * cell + 8, 0] for i in range(4)]
    # Frames 0, 3, 6, 9 of ten shades 0, 28, 56, 85, 113, 141, 170, 198, 226, 255.
    assert shades == [0, 85, 170, 255]


def test_frames_carry_the_colour_of_the_outcome():
    sheet = np.asarray(pictures.contact_sheet([episode(1, True)]))
    corner = sheet[pictures.LABEL_HEIGHT - 1, pictures.MARGIN - 1]
    assert tuple(corner) == pictures.GREEN


def test_video_is_written_whole(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg (extra 'viz') is not installed")
    path = tmp_path / "a.mp4"
    episodes = [episode(1, True), episode(2, False, steps=7), episode(3, None)]
    assert pictures.write_video(path, episodes, 10.0) == ""
    assert path.read_bytes()[4:8] == b"ftyp"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_missing_encoder_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    reason = pictures.write_video(tmp_path / "a.mp4", [episode(1, True)], 10.0)
    assert "pip install 'jaxpolicy[viz]'" in reason
    assert not list(tmp_path.iterdir())


def test_no_frames_make_no_video(tmp_path):
    assert pictures.write_video(tmp_path / "a.mp4", [], 10.0) == "no frames were recorded"


def test_failing_encoder_leaves_nothing(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg (extra 'viz') is not installed")
    reason = pictures.write_video(tmp_path / "a.mp4", [episode(1, True)], -1.0)
    assert reason.startswith("ffmpeg failed")
    assert not list(tmp_path.iterdir())


def test_mosaic_holds_the_last_frame_of_short_episodes():
    frames = pictures.mosaic([episode(1, True), episode(2, False, steps=3)])
    assert len(frames) == 10
    assert frames[0].shape == (20, 40, 3)
    # The second episode's last shade is 255 and stays from its third frame on.
    assert [int(f[10, 30, 0]) for f in frames[:4]] == [0, 127, 255, 255]


def test_captions_stand_above_the_frames_of_a_video():
    one = Recording(0, True, episode(1, True).frames, caption="lift")
    assert one.label == "lift  success"
    (first, *_) = pictures.mosaic([one])
    # 16 + a border of 2 on each side, and the label's rows on top.
    assert first.shape == (20 + pictures.LABEL_HEIGHT, 20, 3)
    label, below = np.split(first, [pictures.LABEL_HEIGHT])
    assert label.min() < 200
    assert tuple(below[0, 0]) == pictures.GREEN


def test_grid_fills_rows_from_the_top_left():
    shades = [np.full((16, 16, 3), v, np.uint8) for v in (10, 20, 30)]
    sheet = np.asarray(pictures.grid(shades, columns=2))
    cell = 16 + pictures.MARGIN
    assert sheet.shape == (2 * cell + pictures.MARGIN, 2 * cell + pictures.MARGIN, 3)
    middle = pictures.MARGIN + 8
    got = [sheet[middle + r * cell, middle + c * cell, 0] for r in (0, 1) for c in (0, 1)]
    assert got == [10, 20, 30, 255]


def test_grid_writes_captions():
    shade = np.full((16, 16, 3), 10, np.uint8)
    sheet = np.asarray(pictures.grid([shade], ["up"], columns=1))
    assert sheet.shape[0] == 16 + 2 * pictures.MARGIN + pictures.LABEL_HEIGHT
    assert sheet[pictures.MARGIN : pictures.MARGIN + pictures.LABEL_HEIGHT].min() < 200

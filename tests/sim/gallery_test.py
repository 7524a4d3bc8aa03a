import numpy as np
import pytest
from PIL import Image

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import gallery
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.sim.gallery import GalleryOptions
from jaxpolicy.sim.render.pictures import Recording

TINY = GalleryOptions(tasks=("reach",), robots=("panda",), size=16, columns=3, sheets=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    told = []
    directory = tmp_path_factory.mktemp("preview") / "new"
    return gallery.preview(EnvConfig(), directory, TINY, lambda *x: told.append(x)), told


def test_preview_writes_what_it_says(made):
    shown, told = made
    names = [p.name for p in shown.paths]
    assert [n for n in names if n.endswith(".png")] == ["panda.png", "suite.png"]
    assert ("panda.mp4" in names) == (not shown.notes)
    assert {p.name for p in shown.paths[0].parent.iterdir()} == set(names)
    assert told == [(1, 1)]


def test_sheet_shows_an_episode_that_moves(made):
    """Three frames of 16 pixels; the robot is elsewhere in the last than in the first."""
    sheet = np.asarray(Image.open(next(p for p in made[0].paths if p.name == "panda.png")))
    assert sheet.shape[1] == 3 * 20 + 4
    first, last = sheet[16:28, 6:18], sheet[16:28, 46:58]
    assert np.abs(first.astype(int) - last).max() > 30


def test_film_ends_a_little_after_success():
    shown = gallery.film(EnvConfig(name="reach"), TINY)
    assert shown.success
    assert shown.caption.startswith("reach, panda: ")
    assert gallery.TAIL_STEPS < len(shown.frames) < 60


def test_camera_faces_its_target():
    # From (1, 0, 0) to the origin: it looks along -x (its -z), y is right, z is up.
    axes = gallery._facing((1.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(axes, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-7)


def test_supersampled_pixels_are_means():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 200, 100
    # Blocks of 2 x 2: (200 + 100 + 0 + 0) / 4 = 75.
    assert gallery._smooth(images)[0, :, :, 0].tolist() == [[75, 0], [0, 0]]


def test_suite_shows_success_or_the_end():
    frames = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 8, 8, 3))
    films = [[Recording(0, True, frames, "a, b: c"), Recording(0, False, frames, "d, b: e")]]
    sheet = np.asarray(gallery.suite(films))
    # 40 frames with a tail of 14 after success: frame 26; without success frame 39.
    assert [sheet[-6, 8, 0], sheet[-6, 20, 0]] == [26, 39]


def test_suite_breaks_rows_and_leaves_no_hole():
    film = Recording(0, None, np.full((1, 8, 8, 3), 7, np.uint8), "a, b: c")
    sheet = np.asarray(gallery.suite([[film] * 5, [film] * 5]))
    # Two robots, five tasks: rows of 4, 4, 1 and 1 pictures of 8 + 4 + 14 by 8 + 4 pixels.
    assert sheet.shape[:2] == (4 * 26 + 4, 4 * 12 + 4)
    bottoms = [4 + 26 * row + 14 + 6 for row in range(4)]
    assert [[int(sheet[y, 8 + 12 * c, 0]) for c in (0, 1, 3)] for y in bottoms] == [
        [7, 7, 7],
        [7, 7, 7],
        [7, 255, 255],
        [7, 255, 255],
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GalleryOptions(tasks=("fly",)), "unknown task 'fly'"),
        (GalleryOptions(robots=("r2",)), "unknown robot 'r2'"),
    ],
)
def test_unknown_names_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        gallery.preview(EnvConfig(), tmp_path / "x", options)
    assert not (tmp_path / "x").exists()


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="must be >= 1"):
        GalleryOptions(columns=0)


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot create this folder"):
        gallery.preview(EnvConfig(), tmp_path / "file", TINY)

"""LeRobot's side of benchmarks/loader.py: LeRobotDataset in PyTorch's DataLoader.

Its video decoder, torchcodec, looks for FFmpeg's libraries on the system; here it is given
those that come with PyAV, under the names it looks for, by starting anew with a path to them.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

import av
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from benchmarks.loader_sides import measuring
from benchmarks.loader_sides.measuring import HORIZON, HZ, N_OBS_STEPS, Settings

PATH = "LD_LIBRARY_PATH"
WORKERS = (0, 2)


def link_ffmpeg(directory: Path) -> None:
    """Links to PyAV's libraries, libavcodec-0123abcd.so.61.19.101 as libavcodec.so.61."""
    directory.mkdir()
    for library in (Path(av.__file__).parent.parent / "av.libs").iterdir():
        found = re.match(r"(lib(?:av|sw)\w+)-[0-9a-f]+(\.so\.\d+)", library.name)
        if found:
            (directory / "".join(found.groups())).symlink_to(library)


def restart_with_ffmpeg(settings: Settings) -> None:
    """Runs this side again where the linker finds FFmpeg; returns when it does."""
    directory = Path(settings.directory) / "ffmpeg"
    if directory.exists():
        return
    link_ffmpeg(directory)
    paths = [str(directory), *filter(None, [os.environ.get(PATH)])]
    os.environ[PATH] = ":".join(paths)
    os.execv(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]])


def make_dataset(settings: Settings, name: str, backend: str) -> LeRobotDataset:
    """The dataset with history and chunk; pictures stay uint8, which is LeRobot's fastest."""
    past = [t / HZ for t in range(1 - N_OBS_STEPS, 1)]
    times = {
        "observation.images.front": past,
        "observation.state": past,
        "action": [t / HZ for t in range(HORIZON)],
    }
    return LeRobotDataset(
        "benchmark/loader",
        root=f"{settings.directory}/{name}",
        video_backend=backend,
        delta_timestamps=times,
        return_uint8=True,
    )


def measure(settings: Settings, name: str, dataset: LeRobotDataset, workers: int) -> None:
    """Rates of shuffled batches, after the first of every worker."""
    batches = iter(forever(dataset, settings.batch, workers))
    for _ in range(max(1, 2 * workers)):
        check(settings, next(batches))

    def call() -> int:
        next(batches)
        return settings.batch

    rates = measuring.repeated(call, settings, group=max(1, workers))
    measuring.emit("LeRobot", f"{name}, {workers} workers", **rates)


def forever(dataset: LeRobotDataset, batch: int, workers: int) -> Any:
    """Batches of one epoch after the other; workers as LeRobot's training sets them up."""
    several = {
        "multiprocessing_context": "spawn",
        "persistent_workers": True,
        "prefetch_factor": 4,
    }
    loader = torch.utils.data.DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        **(several if workers else {}),
    )
    while True:
        yield from loader


def check(settings: Settings, batch: dict[str, Any]) -> None:
    """Raises ValueError unless a batch has the shapes that all sides agree on."""
    b, side = settings.batch, settings.size
    wanted = {
        "observation.images.front": (b, N_OBS_STEPS, 3, side, side),
        "action": (b, HORIZON, 7),
    }
    for key, shape in wanted.items():
        if tuple(batch[key].shape) != shape:
            raise ValueError(f"{key} has shape {tuple(batch[key].shape)}, expected {shape}")


def main() -> None:
    """Prints rows."""
    settings = measuring.read_settings()
    restart_with_ffmpeg(settings)
    kinds = (("lerobot_video", "torchcodec"), ("lerobot_video", "pyav"), ("lerobot_images", "png"))
    for name, backend in kinds:
        try:
            dataset = make_dataset(settings, name, "pyav" if backend == "png" else backend)
            for workers in WORKERS:
                measure(settings, backend, dataset, workers)
        except (ImportError, OSError, RuntimeError) as e:
            measuring.emit("LeRobot", backend, note=f"not measured: {str(e).splitlines()[-1]}")


if __name__ == "__main__":
    main()

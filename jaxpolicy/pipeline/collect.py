"""Stage 1: demonstrations of the scripted expert, and pictures of the worlds."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxpolicy.collect import expert
from jaxpolicy.core import json_file, schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.core.types import Episode
from jaxpolicy.data.formats.rlds_writer import Recording
from jaxpolicy.pipeline import stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike, Progress
from jaxpolicy.pipeline.tally import Tally
from jaxpolicy.sim import gallery
from jaxpolicy.training import prepare

__all__ = ["COLLECTION", "preview", "run"]

COLLECTION = "collection.json"
PREVIEW = "preview"


def preview(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> gallery.Preview:
    """Pictures and videos of all tasks, robots and variations into `<workdir>/preview`."""
    return gallery.preview(config.env, Path(workdir) / PREVIEW, progress=progress)


def run(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> dict[str, Any]:
    """Records demonstrations into `<workdir>/dataset`, or reuses those of the same settings.

    A collection that was killed goes on after the last batch that was finished, and ends with
    the bits of an unbroken one.

    Returns:
      What collection.json says: attempts, successes, steps, seconds, settings.

    Raises:
      InputError: the folder holds demonstrations of other settings, or cannot be
        written; or the expert fails too often.
    """
    directory = prepare.dataset_path(dataclasses.replace(config, dataset=""), workdir)
    settings = json_file.plain(
        {"env": schema.to_mapping(config.env), "collect": schema.to_mapping(config.collect)}
    )
    found = json_file.read(directory / COLLECTION)
    if found is not None:
        if found["settings"] != settings:
            raise InputError(
                f"{directory} holds demonstrations of other settings; give another --workdir "
                "or delete it"
            )
        return found
    env = stages.make_world(config.env)
    spec = expert.dataset_spec(env)
    with Recording(directory, spec, config.env.name, settings) as recording:
        tally = Tally(recording, {"attempts": 0, "successes": 0, "steps": 0})
        episodes = expert.collect(env, config.collect, progress, tally.begin, tally.reached)
        recording.add(_counted(episodes, tally.counts))
        ledger = {**tally.counts, "seconds": tally.seconds(), "settings": settings}
        recording.finish({COLLECTION: json_file.text(ledger)})
    return ledger


def _counted(episodes: Iterable[Episode], counts: dict[str, int]) -> Iterator[Episode]:
    for episode in episodes:
        counts["attempts"] += 1
        counts["successes"] += bool(episode.metadata.success)
        counts["steps"] += len(episode)
        yield episode

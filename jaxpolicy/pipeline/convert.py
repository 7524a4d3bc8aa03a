"""A dataset in another format."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator

from jaxpolicy.core import interruption
from jaxpolicy.core.schema import InputError
from jaxpolicy.core.types import Episode
from jaxpolicy.data import WRITERS, open_source
from jaxpolicy.data.process import select_spec
from jaxpolicy.data.source import EpisodeSource, check_episode
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike, Progress

__all__ = ["run"]


def run(
    config: ExperimentConfig, to: str, output: PathLike, progress: Progress | None = None
) -> tuple[int, dict[int, str]]:
    """Writes the dataset of `config` in another format.

    Every camera and every episode goes along, failed ones too; those that cannot be read
    are left out where data.cleaning.corrupt allows it.

    Args:
      config: `dataset` and how it is read.
      to: key of data.WRITERS.
      output: new folder or file.
      progress: called with (episodes read, episodes in all).

    Returns:
      Number of episodes written, and source index -> why it was left out.
    """
    if to not in WRITERS:
        raise InputError(f"--to must be one of {sorted(WRITERS)}, got '{to}'")
    if not config.dataset:
        raise InputError("--config.dataset must name the dataset to convert")
    source = open_source(config.dataset, config.data.format, config.data)
    action = select_spec(source.spec, config.data).action
    spec = dataclasses.replace(source.spec, action=action)
    left_out: dict[int, str] = {}
    episodes = _readable(source, config.data.cleaning.corrupt, left_out, progress)
    name = re.sub(r"\W", "_", f"{config.name}")
    return WRITERS[to](output, episodes, spec, name), left_out


def _readable(
    source: EpisodeSource, corrupt: str, left_out: dict[int, str], progress: Progress | None
) -> Iterator[Episode]:
    times: Counter[str] = Counter()
    for i in range(len(source)):
        try:
            episode = source.load(i)
            check_episode(episode, source.spec.observation)
        except InputError as e:
            if corrupt == "error":
                raise
            left_out[i] = str(e)
        else:
            yield _renamed(episode, times)
        if progress:
            progress(i + 1, len(source))
        interruption.check()


def _renamed(episode: Episode, times: Counter[str]) -> Episode:
    """Gives ids that were seen before a number of their own."""
    name = episode.metadata.episode_id
    times[name] += 1
    if times[name] == 1:
        return episode
    metadata = dataclasses.replace(episode.metadata, episode_id=f"{name}~{times[name]}")
    return dataclasses.replace(episode, metadata=metadata)

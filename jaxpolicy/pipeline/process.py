"""Stage 2: clean, split and measured datasets; and what they are before that."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import action_kind, detect, open_source
from jaxpolicy.data.action_kind import Guess
from jaxpolicy.data.mapping import Layout
from jaxpolicy.data.process import Processed, select_spec
from jaxpolicy.data.process import load as load_processed
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike, Progress
from jaxpolicy.training import prepare
from jaxpolicy.training.prepare import Opened

__all__ = ["Overview", "look", "opened", "run"]


class Overview(NamedTuple):
    """A dataset before it is processed.

    Attributes:
      path: of the dataset.
      format: key of data.SOURCES.
      n_episodes: in all.
      layout: which field becomes what, see data.mapping.Layout.
      spec: what the policy would see of a step.
      guess: what its actions look like, where it does not say; see data.action_kind.
    """

    path: str
    format: str
    n_episodes: int
    layout: Layout | None
    spec: DatasetSpec
    guess: Guess | None


def look(config: ExperimentConfig, workdir: PathLike) -> tuple[Overview, ...]:
    """What `run` would make of the datasets of `config`; writes nothing."""
    found = []
    for entry in prepare.entries(config, workdir):
        data = entry.data
        kind = detect(entry.dataset) if data.format == "auto" else data.format
        source = open_source(entry.dataset, kind, data)
        layout = getattr(source, "layout", None)
        spec = select_spec(source.spec, data)
        judged = action_kind.guess(source) if spec.action.kind == "unknown" else None
        found.append(Overview(entry.dataset, kind, len(source), layout, spec, judged))
    return tuple(found)


def run(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> tuple[Processed, ...]:
    """Cleans, splits and measures the datasets into `<workdir>/processed`."""
    opened = (
        prepare.open_entry(entry, prepare.processed_path(workdir, n), progress)
        for n, entry in enumerate(prepare.entries(config, workdir))
    )
    return tuple(o.processed for o in opened)


def opened(config: ExperimentConfig, workdir: PathLike) -> Iterator[Opened]:
    """The datasets of a run, as they were processed."""
    for n, entry in enumerate(prepare.entries(config, workdir)):
        source = open_source(entry.dataset, entry.data.format, entry.data)
        yield Opened(entry, source, load_processed(prepare.processed_path(workdir, n)))

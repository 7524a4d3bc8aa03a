"""Checkpoints: `<workdir>/checkpoints/<step>/{params,train_state,assets}`.

`params` is all that acting needs (statistics included), `train_state` the rest of
TrainState, `assets` plain JSON: configuration, PolicySpec, dataset hash and the
position of the run. A checkpoint appears whole or not at all (Orbax renames it into
place); what a killed run left half-written is removed when the next one opens the
directory. `checkpoints/best` is a link to the best step, for people; the library asks
`best_step`, which reads the metric stored in each checkpoint.
"""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxpolicy.core import atomic
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import OnlineState, Params, TrainState

__all__ = [
    "DIRECTORY",
    "Checkpointer",
    "latest_assets",
    "load_assets",
    "load_params",
    "resolve_step",
]

DIRECTORY = "checkpoints"
BEST = "best"
WORLDS = "worlds"  # field of an OnlineState
_SCORE = "score"
# Orbax wants a metric with every checkpoint; worse than any that was measured.
_UNVALIDATED = sys.float_info.max

State = TypeVar("State", TrainState, OnlineState)


class Checkpointer:
    """Saves in the background; keeps the newest ones and the best one."""

    def __init__(self, workdir: str | os.PathLike[str], max_to_keep: int = 1):
        """Opens (creates) `<workdir>/checkpoints`; removes unfinished checkpoints."""
        self._root = Path(workdir).resolve() / DIRECTORY
        atomic.make_directory(self._root)
        # Orbax tells every thread's traceback of one full disk; `_explained` says it once.
        logging.getLogger("absl").addFilter(_is_not_orbax_failing)
        with self._explained():
            self._manager = ocp.CheckpointManager(self._root, options=_options(max_to_keep))

    def save(
        self, step: int, state: State, assets: Mapping[str, Any], score: float | None = None
    ) -> None:
        """Starts saving `state`.

        Args:
          step: updates done.
          state: all of training.
          assets: JSON contents.
          score: lower is better; None where it was not validated.
        """
        rest = _rest(state)
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            train_state=ocp.args.StandardSave(rest),
            assets=ocp.args.JsonSave(dict(assets)),
        )
        metrics = {_SCORE: _UNVALIDATED if score is None else float(score)}
        with self._explained():
            if step in self._manager.all_steps():
                self._manager.wait_until_finished()
                self._manager.delete(step)
            self._manager.save(step, args=items, metrics=metrics, force=True)

    def check(self) -> None:
        """Raises InputError where a save under way has failed."""
        with self._explained():
            self._manager.check_for_errors()

    def latest_step(self) -> int | None:
        """Newest step saved, None without any."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Best validated step, else the newest, None without any."""
        return _best(self._manager)

    def assets(self, step: int) -> dict[str, Any]:
        """Assets of `step`."""
        items = ocp.args.Composite(assets=ocp.args.JsonRestore())
        return self._manager.restore(step, args=items).assets

    def restore(self, step: int, like: State) -> State:
        """State of `step` with the shapes, dtypes and shardings of `like`."""
        rest = _rest(like)
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(like.params),
            train_state=ocp.args.StandardRestore(rest),
        )
        found = self._manager.restore(step, args=items)
        return type(like)(params=found.params, **_whole(found.train_state, like))

    def params(self, step: int, like: Params) -> Params:
        """Parameters of `step` with the shapes, dtypes and shardings of `like`."""
        return _restore_params(self._manager, step, like)

    def forget(self, after: int) -> int | None:
        """Deletes the checkpoints of steps beyond `after`; the newest left, None without any."""
        self.wait()
        for step in self._manager.all_steps():
            if step > after:
                self._manager.delete(step)
        _link(self._root, self.best_step())
        return self.latest_step()

    def wait(self) -> None:
        """Waits for saves under way and points `checkpoints/best` at the best one."""
        with self._explained():
            self._manager.wait_until_finished()
            _link(self._root, self.best_step())

    def close(self) -> None:
        """Waits as `wait` and frees the threads."""
        try:
            self.wait()
        finally:
            with self._explained():
                self._manager.close()
            logging.getLogger("absl").removeFilter(_is_not_orbax_failing)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Failures of the file system in the block are InputErrors."""
        try:
            yield
        except Exception as e:
            reason = _reason(e)
            if reason is None:
                raise
            raise InputError(
                f"{self._root}: a checkpoint could not be written: {reason.strerror}; those before "
                "it are intact, and the same command goes on from the newest"
            ) from reason


def _is_not_orbax_failing(record: logging.LogRecord) -> bool:
    """Drops tracebacks that Orbax logs of what it raises besides."""
    return not (record.levelno >= logging.ERROR and f"{os.sep}orbax{os.sep}" in record.pathname)


def _reason(error: BaseException | None) -> OSError | None:
    """What the operating system said that made `error`, None where it was something else."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error
        # TensorStore's errors have no type of their own.
        found = re.search(r"os_error_code='(\d+)'", str(error))
        if found:
            return OSError(int(found[1]), os.strerror(int(found[1])))
        error = error.__cause__ or error.__context__
    return None


def _rest(state: State) -> dict[str, Any]:
    """All of a state but its parameters, and of worlds but arrays without elements.

    Orbax saves none of those, and worlds without mocap bodies, say, have some.
    """
    rest = {k: v for k, v in state._asdict().items() if k != "params"}
    if WORLDS in rest:
        leaves = enumerate(jax.tree.leaves(rest[WORLDS]))
        rest[WORLDS] = {str(i): x for i, x in leaves if x.size}
    return rest


def _whole(found: dict[str, Any], like: State) -> dict[str, Any]:
    """Inverse of `_rest`, given what `like` looks like."""
    if WORLDS not in found:
        return found
    leaves, structure = jax.tree.flatten(like._asdict()[WORLDS])
    kept = found[WORLDS]
    filled = [
        kept[str(i)] if x.size else jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding)
        for i, x in enumerate(leaves)
    ]
    return {**found, WORLDS: jax.tree.unflatten(structure, filled)}


def _options(max_to_keep: int) -> ocp.CheckpointManagerOptions:
    keep = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(max_to_keep),
            checkpoint_managers.BestN(
                get_metric_fn=_score,
                reverse=True,
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
    )
    return ocp.CheckpointManagerOptions(
        preservation_policy=keep,
        best_fn=_score,
        best_mode="min",
        cleanup_tmp_directories=True,
        save_root_metadata=False,
    )


def _score(metrics: Mapping[str, float]) -> float:
    return metrics[_SCORE]


def _best(manager: ocp.CheckpointManager) -> int | None:
    best = manager.best_step()
    if best is None or _score(manager.metrics(best)) >= _UNVALIDATED:
        return manager.latest_step()
    return best


def _restore_params(manager: ocp.CheckpointManager, step: int, like: Params) -> Params:
    items = ocp.args.Composite(params=ocp.args.StandardRestore(like))
    try:
        return manager.restore(step, args=items).params
    except (KeyError, FileNotFoundError) as e:
        where = f"{manager.directory}/{step}"
        raise InputError(f"{where} is damaged, a part of it is missing: {e}") from e


def _link(root: Path, step: int | None) -> None:
    """Points root/best at root/<step>; without one there is no such link."""
    if step is not None:
        atomic.point(root / BEST, root / str(step))
    elif (root / BEST).is_symlink():
        (root / BEST).unlink()


def resolve_step(workdir: str | os.PathLike[str], which: str | int = BEST) -> int:
    """The step that "best", "latest" or a number stands for.

    Raises:
      InputError: no checkpoint there, or not that one.
    """
    root = Path(workdir) / DIRECTORY
    with _reader(workdir) as manager:
        steps = manager.all_steps()
        if not steps:
            raise InputError(f"{root}: no finished checkpoint; train first")
        names = {BEST: _best(manager), "latest": manager.latest_step()}
        step = names.get(str(which), which)
    if not str(step).isdigit() or int(step) not in steps:
        raise InputError(f"{root}: no checkpoint '{which}'; there are best, latest, {steps}")
    return int(step)


def load_assets(workdir: str | os.PathLike[str], step: int) -> dict[str, Any]:
    """Assets of a checkpoint, read-only."""
    with _reader(workdir) as manager:
        items = ocp.args.Composite(assets=ocp.args.JsonRestore())
        return manager.restore(step, args=items).assets


def latest_assets(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Assets of the newest checkpoint, empty where there is none."""
    if not (Path(workdir) / DIRECTORY).is_dir():
        return {}
    with _reader(workdir) as manager:
        step = manager.latest_step()
    return {} if step is None else load_assets(workdir, step)


def load_params(workdir: str | os.PathLike[str], step: int, like: Params) -> Params:
    """Parameters of a checkpoint, read-only, with the shapes and dtypes of `like`."""
    with _reader(workdir) as manager:
        return _restore_params(manager, step, like)


def _reader(workdir: str | os.PathLike[str]) -> ocp.CheckpointManager:
    """A manager that changes nothing, safe beside a run that is still training."""
    root = Path(workdir).resolve() / DIRECTORY
    if not root.is_dir():
        raise InputError(f"{root} not found: --workdir must be a directory made by training")
    # Not Orbax's read_only, which warns; without a save nothing is written or deleted.
    options = ocp.CheckpointManagerOptions(
        create=False, save_root_metadata=False, best_fn=_score, best_mode="min"
    )
    return ocp.CheckpointManager(root, options=options)

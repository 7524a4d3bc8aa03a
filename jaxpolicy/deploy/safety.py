"""What stands between a policy's output and the robot: finite, within limits, or held."""

import numpy as np

from jaxpolicy.core.specs import RELATIVE_KINDS, ActionSpec, InputError

__all__ = ["ActionGuard", "hold_action"]

_MOTION_UNITS = ("m", "rad")


def hold_action(spec: ActionSpec, last: np.ndarray) -> np.ndarray:
    """The action that stays where `last` [..., A] has brought the robot.

    For delta kinds, motion elements (units m and rad) become zero, clipped to the
    limits, and the others (the gripper opening) keep their last value; for absolute
    kinds `last` itself.
    """
    if spec.kind not in RELATIVE_KINDS:
        return last
    moves = np.array([u in _MOTION_UNITS for u in spec.units])
    still = np.clip(0.0, spec.minimum, spec.maximum).astype(np.float32)
    return np.where(moves, still, last)


class ActionGuard:
    """Passes actions that are finite and within limits, and counts the rest.

    Attributes:
      held: actions replaced by holding still because they were NaN or infinite.
      clipped: actions with at least one element outside the ActionSpec's limits.
    """

    def __init__(self, spec: ActionSpec, max_held: int = 20):
        """Guard for actions of `spec`.

        Args:
          spec: limits, [A].
          max_held: held actions in a row, per environment, before giving up.
        """
        self._spec, self._max_held = spec, max_held
        self._low = np.array(spec.minimum, np.float32)
        self._high = np.array(spec.maximum, np.float32)
        self.held, self.clipped = 0, 0
        self.reset()

    def reset(self) -> None:
        """Forgets the last actions: a new episode has nothing to hold yet."""
        self._last: np.ndarray | None = None
        self._in_a_row: np.ndarray | int = 0

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Safe version of `action` [E, A], float32.

        Raises:
          InputError: not finite before any action was safe, or `max_held` times in
            a row.
        """
        finite = np.isfinite(action).all(axis=-1)
        safe = action if finite.all() else self._hold(action, finite)
        self._in_a_row = np.where(finite, 0, np.asarray(self._in_a_row) + 1)
        if np.max(self._in_a_row) >= self._max_held:
            raise InputError(f"the policy returned NaN or infinite actions {self._max_held} times")
        bounded = np.clip(safe, self._low, self._high)
        self.clipped += int((bounded != safe).any(axis=-1).sum())
        self._last = bounded
        return bounded

    def _hold(self, action: np.ndarray, finite: np.ndarray) -> np.ndarray:
        if self._last is None:
            raise InputError("the policy's first action is NaN or infinite: nothing safe to hold")
        self.held += int((~finite).sum())
        return np.where(finite[:, None], action, hold_action(self._spec, self._last))

"""offline.html: errors on recorded actions, by element, and recorded beside predicted actions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxpolicy.core.specs import ActionSpec
from jaxpolicy.evaluation import page, plots
from jaxpolicy.evaluation.offline import ActionErrors

__all__ = ["Compared", "element_rows", "render", "unit_of"]


class Compared(NamedTuple):
    """Actions of one dataset's episodes, recorded and predicted.

    Attributes:
      dataset: path.
      spec: of the action vector.
      errors: predictor -> its errors, the policy first.
      episodes: (recorded, predicted), each [T, A], of the first episodes.
    """

    dataset: str
    spec: ActionSpec
    errors: Mapping[str, ActionErrors]
    episodes: Sequence[tuple[np.ndarray, np.ndarray]]


def unit_of(unit: str) -> str:
    """A unit for people: "no unit" where there is none, or where it is not known."""
    return unit if unit not in ("", "1") else "no unit"


def element_rows(errors: Mapping[str, ActionErrors]) -> list[tuple[str, ...]]:
    """(element, unit, mean absolute error of each predictor), for a table."""
    units = next(iter(errors.values())).units
    return [
        (name, unit_of(unit), *(f"{e.elements[name]:.3g}" for e in errors.values()))
        for name, unit in units.items()
    ]


def render(name: str, part: str, compared: Sequence[Compared]) -> str:
    """The page.

    Args:
      name: of the experiment.
      part: of the data that was read: "validation" or "test".
      compared: one for each dataset.
    """
    title = f"Recorded and predicted actions of '{name}'"
    body = [
        f"<h1>{page.text(title)}</h1>",
        f'<p class="sub">Errors on the {page.text(part)} part. A policy must beat the best '
        "constant action and repeating the previous one; success in closed loop is not measured "
        "here.</p>",
    ]
    for found in compared:
        body += [f'<p class="mute">{page.text(found.dataset)}</p>'] if len(compared) > 1 else []
        body += [_summary(found), _elements(found), _plots(found)]
    return page.document(title, body)


def _summary(found: Compared) -> str:
    rows = [(name, f"{e.mse:.4f}", e.n_steps) for name, e in found.errors.items()]
    return page.table("All elements", ("predictor", "MSE / variance", "steps"), rows)


def _elements(found: Compared) -> str:
    header = ("element", "unit", *found.errors)
    return page.table("Mean absolute error by element", header, element_rows(found.errors))


def _plots(found: Compared) -> str:
    """Plots of the episodes, where matplotlib is installed."""
    try:
        drawn = [
            page.image(f"episode {i + 1}", plots.actions(*pair, found.spec, f"Episode {i + 1}"))
            for i, pair in enumerate(found.episodes)
        ]
    except ImportError:
        return "<p>No plots: matplotlib is not installed; pip install 'jaxpolicy[viz]'</p>"
    return f'<h2>First episodes</h2><div class="plots">{"".join(drawn)}</div>' if drawn else ""

import numpy as np

from jaxpolicy.evaluation import plots

PNG = b"\x89PNG"


def test_curves_are_pictures():
    steps, rates = np.asarray([0.0, 10.0, 20.0]), np.asarray([0.0, 0.5, 1.0])
    one = plots.success_curve(steps, rates, 20, x="control steps")
    assert one.startswith(PNG)
    several = plots.learning_curves({"a": (steps, rates), "b": (steps, rates**2)}, 20, "updates")
    assert several.startswith(PNG)
    # What is drawn depends on what is given.
    assert several != plots.learning_curves({"a": (steps, rates)}, 20, "updates")

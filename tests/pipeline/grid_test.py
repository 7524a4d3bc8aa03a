
import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import grid
from tests.pipeline.sweep_test import experiment


def test_grid_by_hand():
    text = "optimizer.learning_rate=1e-4, 3e-4; network.widths=(8, 16),(4,) ;loop.scan=on;a=true"
    assert grid.parse_grid(text) == {
        "optimizer.learning_rate": (1e-4, 3e-4),
        "network.widths": ((8, 16), (4,)),
        "loop.scan": ("on",),
        "a": (True,),
    }
    assert grid.parse_grid(" ") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("horizon", "cannot read 'horizon'; write key=value"),
        ("horizon=1,,2", "cannot read 'horizon=1,,2'"),
        ("horizon=1;", "cannot read ''"),
        ("=1", "cannot read '=1'"),
        ("horizon=1;horizon=2", "names 'horizon' twice"),
        ("seed=1,2", "cannot vary 'seed'"),
        ("env.name=lift,stack", "cannot vary 'env.name'"),
        ("optimizer.lr=1e-3", "no key 'lr'; known keys: name, learning_rate"),
        ("optimiser.learning_rate=1e-3", "no key 'optimiser'; did you mean 'optimizer'"),
        ("seed.x=1", "cannot vary 'seed.x'"),
        ("horizon.x=1", "horizon is a value, not a section"),
        ("horizon=two", "config.horizon must be int, got str 'two'"),
        ("n_action_steps=2", r"n_action_steps \(2\) exceeds horizon"),
        ("network.hidden=4,4", "the same directory name"),
    ],
)
def test_bad_grids_are_explained(text, message):
    with pytest.raises(InputError, match=message):
        grid.cells(experiment(grid=text))


def test_cells_are_combinations_with_seeds():
    config = experiment(grid="optimizer.learning_rate=1e-3,1e-2;network.hidden=8", seeds=2, seed=5)
    found = grid.cells(config)
    assert [c.name for c in found] == [
        "optimizer.learning_rate=0.001,network.hidden=8/seed_5",
        "optimizer.learning_rate=0.001,network.hidden=8/seed_6",
        "optimizer.learning_rate=0.01,network.hidden=8/seed_5",
        "optimizer.learning_rate=0.01,network.hidden=8/seed_6",
    ]
    last = found[-1].config
    assert (last.optimizer.learning_rate, last.network.hidden, last.seed) == (0.01, 8, 6)
    assert not grid.is_sweep(last)
    assert schema.to_mapping(last.data) == schema.to_mapping(config.data)


def test_seeds_alone():
    assert [c.name for c in grid.cells(experiment(seeds=2))] == ["seed_0", "seed_1"]
    assert not grid.is_sweep(experiment())
    with pytest.raises(InputError, match="seeds must be at least 1"):
        experiment(seeds=0)

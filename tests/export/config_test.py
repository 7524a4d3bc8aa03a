"""Wrong values are refused with the key's name."""

import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import BACKENDS
from jaxpolicy.export.bundle import EXPORTERS
from jaxpolicy.export.config import FORMATS, ExportConfig
from jaxpolicy.export.verify import OPERATORS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"formats": ()}, r"export\.formats"),
        ({"formats": ("onnx", "torch")}, r"export\.formats"),
        ({"n_golden": 0}, "n_golden"),
        ({"threads": 0}, "threads"),
        ({"latency_runs": -1}, "latency_runs"),
        ({"tolerance": 0.0}, r"export\.tolerance"),
        ({"latency_budget_ms": -1.0}, "latency_budget_ms"),
    ],
)
def test_wrong_values(value, message):
    with pytest.raises(InputError, match=message):
        ExportConfig(**value)


def test_every_format_has_an_exporter_a_backend_and_an_operator_check():
    assert set(EXPORTERS) == set(BACKENDS) == set(OPERATORS) == set(FORMATS)

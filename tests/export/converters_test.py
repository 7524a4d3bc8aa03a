import importlib.metadata

import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.export import converters


def test_the_version_that_is_there_will_do():
    converters.require("pictures", "numpy", importlib.metadata.version("numpy"))


def test_another_version_is_named():
    with pytest.raises(InputError, match=r"^exporting pictures needs numpy 0\.1, found [1-9]"):
        converters.require("pictures", "numpy", "0.1")


def test_a_missing_package_is_named():
    with pytest.raises(InputError, match=r"needs no-such-thing 1\.0, found none: pip install"):
        converters.require("pictures", "no-such-thing", "1.0")

"""The checklist holds what was measured, and can be completed later."""

import json
import shutil

import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.export import checklist, verify


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "export")


def test_items_are_in_order(bundle):
    items = json.loads((bundle / "checklist.json").read_text())
    assert tuple(items) == checklist.ITEMS


def test_fill(copy):
    checklist.fill(copy, "success_rate", 0.985, 0.8, True)
    items = json.loads((copy / "checklist.json").read_text())
    assert items["success_rate"] == {"value": 0.985, "limit": 0.8, "passed": True}
    assert items["parity"]["passed"]
    # The checklist is not part of what the manifest protects.
    assert verify.verify(copy)["passed"]


def test_fill_an_unknown_item(copy):
    with pytest.raises(InputError, match="no item 'sucess_rate'"):
        checklist.fill(copy, "sucess_rate", 1.0, 0.8, True)


def test_fill_without_a_checklist(tmp_path):
    with pytest.raises(InputError, match=r"checklist\.json cannot be read"):
        checklist.fill(tmp_path, "success_rate", 1.0, 0.8, True)

"""Pages are one file, readable from 400 px on, light and dark."""

import re

import numpy as np
import pytest

from jaxpolicy.core.specs import ActionSpec
from jaxpolicy.evaluation import offline, offline_page, page

SPEC = ActionSpec("unknown", ("x", "grip"), ("m", ""), (-1.0, 0.0), (1.0, 1.0), 5.0)


@pytest.fixture(scope="module")
def rendered():
    target = np.random.default_rng(0).normal(size=(20, 2))
    errors = offline.compare(target * 0.9, target, np.array([0, 10]), target, SPEC)
    shown = [(target[:10], target[:10] * 0.9)]
    compared = offline_page.Compared("d", SPEC, errors, shown)
    return offline_page.render("<b>", "validation", [compared])


def test_a_page_is_one_file_for_any_screen(rendered):
    assert '<meta name="viewport" content="width=device-width' in rendered
    assert "prefers-color-scheme: dark" in rendered
    assert not re.findall(r'(?:src|href)="(?!data:)', rendered)
    assert "&lt;b&gt;" in rendered


def test_what_is_wide_scrolls_or_wraps(rendered):
    assert rendered.count("<table>") == rendered.count('<div class="wide"><table>') == 2
    assert "overflow-wrap: anywhere" in rendered
    assert "minmax(min(26rem, 100%), 1fr)" in rendered


def test_elements_have_names_and_units(rendered):
    assert re.search(r"<td>x</td><td>m</td><td>[\d.]+</td>", rendered)
    assert "<td>grip</td><td>no unit</td>" in rendered
    assert rendered.count('src="data:image/png') == 1


def test_tables_of_reports_scroll_too():
    assert page.table("t", ("a",), [(1,)]).count('<div class="wide">') == 1

import dataclasses
import html.parser
import json
import sys

import numpy as np
import pytest

from jaxpolicy.core import json_file
from jaxpolicy.core.specs import InputError
from jaxpolicy.evaluation import EvaluationConfig, page, report
from jaxpolicy.sim.render.pictures import Recording
from tests.evaluation.failures_test import episodes

CONFIG = EvaluationConfig(n_episodes=20)
LATENCY = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "samples": [1.0, 1.0, 2.0, 3.0]}
FACTS = report.Facts("jax", "1000", "abc123", LATENCY)


def film(seed, success):
    return Recording(seed, success, np.full((5, 16, 16, 3), 40 * seed, np.uint8))


@pytest.fixture
def rollouts():
    success = np.arange(20) < 17
    made = episodes(success, success, grasped=success, had=success)
    return dataclasses.replace(
        made,
        first_success=np.where(success, 4, 0),
        start=np.linspace(0, 1, 40).reshape(20, 2),
        paths=np.linspace(0, 1, 120).reshape(20, 3, 2),
        recordings=(film(1, True), film(2, False)),
    )


KEYS = (
    "n_episodes n_success success_rate pc_success success_ci95 success_std_over_seeds per_task "
    "per_variation calibration latency_ms failures verdict dataset_hash checkpoint versions"
)


def test_report_has_the_documented_keys(rollouts, tmp_path):
    written = report.write(tmp_path, rollouts, FACTS, CONFIG)
    assert json.loads((tmp_path / "report.json").read_text()) == written
    assert set(KEYS.split()) <= set(written)
    assert (written["n_success"], written["success_rate"]) == (17, 0.85)
    assert written["pc_success"] == pytest.approx(85.0)
    assert written["latency_ms"] == {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    assert written["per_task"]["t"]["n_success"] == 17
    assert (written["dataset_hash"], written["checkpoint"]) == ("abc123", "1000")
    assert written["failures"]["unclassified"] == {"count": 3, "share": 1.0}
    assert written["versions"]["jax"]


def test_verdict_carries_its_doubt(rollouts):
    found = report.build(rollouts, FACTS, CONFIG)["verdict"]
    # 17 of 20: [.64, .95] holds both thresholds.
    assert (found["level"], found["inconclusive"]) == ("good", True)
    assert len(found["reasons"]) == 5


def test_slow_decisions_lower_the_verdict(rollouts):
    slow = dataclasses.replace(FACTS, latency_ms=LATENCY | {"p95": 250.0})
    found = report.build(rollouts, slow, CONFIG)["verdict"]
    assert found["level"] == "needs_improvement"
    assert "a decision takes 250 ms (p95), the limit is 200 ms" in found["reasons"]


def nulls(value, key=""):
    """Dotted keys of all nulls."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from nulls(v, f"{key}.{k}" if key else k)
    elif value is None:
        yield key


def test_every_null_has_a_reason(rollouts):
    unknown = dataclasses.replace(rollouts, success=None, first_success=None)
    for given in (rollouts, unknown):
        built = report.build(given, report.Facts(), CONFIG)
        missing = set(nulls({k: v for k, v in built.items() if k != "episodes"}))
        reasons = built["not_measured"]
        told = [k for k in missing if any(k == r or k.startswith(f"{r}.") for r in reasons)]
        assert sorted(told) == sorted(missing - {"verdict.more_episodes"})


def test_spread_over_seeds_is_reported_when_given(rollouts):
    facts = dataclasses.replace(FACTS, rates_over_seeds=(0.8, 0.9, 1.0))
    built = report.build(rollouts, facts, CONFIG)
    assert built["success_std_over_seeds"] == pytest.approx(0.1)
    assert "success_std_over_seeds" not in built["not_measured"]


def test_confidence_is_calibrated(rollouts):
    sure = dataclasses.replace(rollouts, confidence=np.full(20, 0.85))
    built = report.build(sure, FACTS, CONFIG)
    assert built["calibration"]["ece"] == pytest.approx(0.0, abs=1e-9)
    assert "calibration" not in built["not_measured"]


def test_numbers_that_are_not_finite_become_null(rollouts, tmp_path):
    broken = dict(rollouts.final) | {"reward/x": np.where(np.arange(20) == 3, np.nan, 1.0)}
    written = report.write(tmp_path, dataclasses.replace(rollouts, final=broken), FACTS, CONFIG)
    assert written["episodes"][3]["final"]["reward/x"] is None
    json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)


class Outline(html.parser.HTMLParser):
    """Open tags, and where pictures come from."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_well_formed_and_self_contained(rollouts, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (extra 'viz') is not installed")
    report.write(tmp_path, rollouts, FACTS, CONFIG)
    outline = Outline()
    outline.feed((tmp_path / "report.html").read_text())
    assert not outline.open
    assert all(s.startswith("data:") for s in outline.sources)
    # Plots (success, time, returns, starts, paths, latency), two contact sheets.
    assert sum(s.startswith("data:image/png") for s in outline.sources) == 8
    text = " ".join(outline.text)
    assert "85.0 %" in text
    assert "Failed seeds: 17 (unclassified)" in text


def test_page_escapes_names(rollouts):
    odd = dataclasses.replace(rollouts, task="<script>")
    assert "<script>" not in page.render(report.build(odd, FACTS, CONFIG), {})


def test_without_matplotlib_the_report_says_so(rollouts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = report.write(tmp_path, rollouts, FACTS, CONFIG)
    assert "jaxpolicy[viz]" in written["not_measured"]["plots"]
    assert (tmp_path / "failures.png").exists()


def test_pictures_of_an_earlier_evaluation_do_not_stay(rollouts, tmp_path):
    report.write(tmp_path, rollouts, FACTS, CONFIG)
    good = dataclasses.replace(rollouts, recordings=(film(1, True),))
    report.write(tmp_path, good, FACTS, CONFIG)
    assert not (tmp_path / "failures.png").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_unwritable_directory_is_named(rollouts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="evaluation: cannot create this folder"):
        report.write(tmp_path / "file" / "evaluation", rollouts, FACTS, CONFIG)


def test_a_report_of_fewer_episodes_does_not_replace_one_of_more(tmp_path):
    def there(n):
        json_file.write(tmp_path / "report.json", {"n_episodes": n})
        (tmp_path / "report.html").write_text(f"page of {n}")

    assert report.keep_earlier(tmp_path, 8) is None
    there(200)
    assert report.keep_earlier(tmp_path, 200) is None
    kept = report.keep_earlier(tmp_path, 8)
    assert kept == tmp_path / "earlier" / "200_episodes"
    assert (kept / "report.html").read_text() == "page of 200"
    assert json_file.read(kept / "report.json") == {"n_episodes": 200}
    assert not (tmp_path / "report.json").exists()
    there(200)
    assert report.keep_earlier(tmp_path, 8) == tmp_path / "earlier" / "200_episodes_2"


def test_a_report_of_another_world_is_kept(tmp_path):
    world = {"name": "reach", "cameras": ("wrist",)}
    json_file.write(tmp_path / "report.json", {"n_episodes": 8, "world": world})
    assert report.keep_earlier(tmp_path, 8, world) is None
    kept = report.keep_earlier(tmp_path, 8, world | {"name": "push"})
    assert kept == tmp_path / "earlier" / "8_episodes"

import html.parser
import json

import numpy as np
import pytest

from jaxpolicy.data import DataConfig, MemorySource, card, card_html, open_source, process
from tests.data.episodes import BRIDGE, SPEC, make_episode

HOSTILE = "<script src='https://evil.example/x.js'>alert(1)</script>\"&"


class Page(html.parser.HTMLParser):
    """Tags, their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


def make(directory, episodes, **config):
    source = MemorySource(list(episodes), SPEC)
    process.process(source, DataConfig(**config), directory)
    return json.loads((directory / "card.json").read_text()), (directory / "card.html").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ten episodes, of which two failed and one does not say."""
    success = [True] * 7 + [False, False, None]
    episodes = [make_episode(i, 4 + i, success=s) for i, s in enumerate(success)]
    episodes += [make_episode(20, 4, task=HOSTILE, episode_id=HOSTILE)]
    return make(tmp_path_factory.mktemp("card"), episodes)


def test_keys(made):
    found, _ = made
    assert set(found) >= {
        "action_kind",
        "cameras",
        "columns",
        "control_hz",
        "counts",
        "dropped",
        "fields",
        "hours",
        "lengths",
        "success",
        "tasks",
        "warnings",
    }
    # 11 episodes less 2 that failed; steps 4 + 5 + ... + 10, 13 and 4.
    assert (found["counts"]["found"], found["counts"]["kept"]) == (11, 9)
    assert found["counts"]["steps"] == 49 + 13 + 4
    assert found["hours"] == pytest.approx(66 / 20 / 3600)
    assert found["success"] == {"succeeded": 8, "failed": 2, "unknown": 1, "rate": 0.8}
    assert found["cameras"] == {"wrist": [8, 8, 3]}
    assert found["action_kind"] == "joint_delta"


def test_lengths_and_tasks(made):
    found, _ = made
    # Kept: 4 5 6 7 8 9 10 13 4; sorted 4 4 5 6 7 8 9 10 13.
    lengths = found["lengths"]
    assert (lengths["min"], lengths["median"], lengths["max"]) == (4, 7.0, 13)
    assert sum(lengths["histogram"]["counts"]) == 9
    assert lengths["histogram"]["counts"][0] == 2
    assert len(lengths["histogram"]["edges"]) == len(lengths["histogram"]["counts"]) + 1
    tasks = found["tasks"]
    assert tasks["n"] == 2
    assert [(t["task"], t["episodes"], sum(t["parts"])) for t in tasks["commonest"]] == [
        ("lift", 8, 8),
        (HOSTILE, 1, 1),
    ]


def test_dropped_ones_are_listed(made):
    dropped = made[0]["dropped"]
    assert dropped["failed"]["count"] == 2
    assert [e["episode_id"] for e in dropped["failed"]["episodes"]] == ["e-007", "e-008"]
    assert dropped["duplicate"] == {"count": 0, "episodes": []}


def test_histograms_by_hand(tmp_path):
    # All train: action[0] is 0, .1, .2, .3; the bins are 30 from 0 to .3, .01 wide:
    # they lie in bins 0, 10, 20 and, the largest, 29. action[1] is 0 1 0 1: bins 0 and 29.
    found, _ = make(tmp_path, [make_episode(0)], split=(1.0, 0.0, 0.0))
    first, second, *proprio = found["columns"]
    assert [c["array"] for c in found["columns"]] == ["action"] * 2 + ["proprio"] * 2
    assert (first["name"], first["unit"], second["name"]) == ("dq", "rad", "gripper")
    counts = np.array(first["histogram"])
    assert counts.sum() == 4
    assert counts[0] == counts[29] == 1
    assert counts[9:12].sum() == counts[19:22].sum() == 1
    assert np.flatnonzero(second["histogram"]).tolist() == [0, 29]
    # Constant: all in one bin, no division by zero.
    assert max(proprio[0]["histogram"]) == 4
    assert found["warnings"] == ["the validation or the test part is empty"]


def test_what_lies_beyond_the_train_part_counts_at_the_ends():
    rows = iter([np.array([[-5.0], [0.0], [0.5], [1.0], [9.0]], np.float32)])
    (counts,) = card._histograms(rows, np.array([0.0]), np.array([1.0]))
    assert (counts[0], counts[15], counts[29], counts.sum()) == (2, 1, 2, 5)


def test_the_page_escapes_what_files_say(made):
    _, text = made
    page = Page(text)
    assert "script" not in page.tags
    assert any("alert(1)" in word for word in page.words)
    # Nothing is loaded from elsewhere: pictures are inside.
    links = [v for k, v in page.attributes if k in ("src", "href", "srcset", "action", "data")]
    assert links
    assert all(v.startswith("data:image/jpeg;base64,") for v in links)
    assert not [k for k, _ in page.attributes if k.startswith("on")]
    assert "url(" not in text


def test_hostile_fields_and_warnings(made):
    row = {"field": HOSTILE, "shape": HOSTILE, "role": HOSTILE, "why": HOSTILE}
    hostile = {**made[0], "fields": [row], "warnings": [HOSTILE], "action_kind": HOSTILE}
    hostile["cameras"] = {HOSTILE: [8, 8, 3]}
    hostile["columns"] = [{**made[0]["columns"][0], "name": HOSTILE, "unit": HOSTILE}]
    page = Page(card_html.page(hostile, []))
    assert "script" not in page.tags
    assert sum("alert(1)" in word for word in page.words) >= 7


def test_warnings(tmp_path):
    episodes = [make_episode(i, success=None) for i in range(12)]
    for episode in episodes:
        episode.action[:, 1] = 0.5
        episode.observation["image/wrist"][:] = 7
    found, _ = make(tmp_path, episodes, control_hz=20.0)
    assert "no episode says whether it succeeded: failures cannot be dropped" in found["warnings"]
    assert "constant elements of the action: gripper" in found["warnings"]
    assert any("every picture looked at has one colour" in w for w in found["warnings"])


def test_a_real_dataset(tmp_path):
    process.process(open_source(BRIDGE), DataConfig(cameras=("image_0",)), tmp_path)
    found = json.loads((tmp_path / "card.json").read_text())
    roles = {f["field"]: f["role"] for f in found["fields"]}
    assert roles["action"] == "action[0:7]"
    assert (found["control_hz"], found["hours"]) == (None, None)
    assert found["dropped"]["duplicate"]["count"] == 25
    assert any("state data.action_kind" in w for w in found["warnings"])
    assert any("state data.control_hz" in w for w in found["warnings"])
    assert Page((tmp_path / "card.html").read_text()).tags.count("img") == 6

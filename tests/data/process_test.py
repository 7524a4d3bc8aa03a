import dataclasses
import json

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import CleaningConfig, DataConfig, MemorySource, open_source, process
from tests.data.episodes import BRIDGE, SPEC, make_episode

STATE = {"source.json", "episodes.jsonl", "statistics.json"}
FILES = {*STATE, "card.json", "card.html"}


def source_of(episodes) -> MemorySource:
    return MemorySource(list(episodes), SPEC)


@pytest.fixture
def source():
    return source_of(make_episode(i) for i in range(20))


def parts(processed):
    return {e.episode_id: e.part for e in processed.episodes}


def test_split_and_files(source, tmp_path):
    processed = process.process(source, DataConfig(), tmp_path / "p")
    # 20 episodes: 14, 3, 3.
    assert len(processed.indices("train")) == 14
    assert len(processed.indices("val")) == 3
    assert {p.name for p in (tmp_path / "p").iterdir()} == FILES
    assert processed.counts == {
        "found": 20,
        "failed": 0,
        "corrupt": 0,
        "truncated": 0,
        "duplicate": 0,
        "idle": 0,
        "outlier": 0,
        "kept": 20,
        "steps": 80,
        "train": 14,
        "val": 3,
        "test": 3,
    }


def test_load_is_what_process_returned(source, tmp_path):
    processed = process.process(source, DataConfig(), tmp_path)
    loaded = process.load(tmp_path)
    assert loaded.spec == processed.spec
    assert loaded.episodes == processed.episodes
    assert (loaded.counts, loaded.dataset_hash) == (processed.counts, processed.dataset_hash)
    for key, stats in processed.norm.items():
        for a, b in zip(stats, loaded.norm[key], strict=True):
            np.testing.assert_array_equal(a, b)
            assert b.dtype == np.float32


def test_statistics_are_of_the_train_part_alone(source, tmp_path):
    processed = process.process(source, DataConfig(), tmp_path)
    train = np.concatenate([source[i].action for i in processed.indices("train")])
    everything = np.concatenate([e.action for e in source])
    np.testing.assert_allclose(processed.norm["action"].mean, train.mean(0), rtol=1e-6)
    assert not np.allclose(train.mean(0), everything.mean(0), rtol=1e-3)


def test_statistics_by_hand(tmp_path):
    # One episode of 4 steps, all of it train: action = (i + t / 10, t % 2), i = 5.
    #   dim 0: 5.0 5.1 5.2 5.3, mean 5.15, deviations .15 .05 .05 .15,
    #          variance (2 * .0225 + 2 * .0025) / 4 = .0125, std .1118034
    #   dim 1: 0 1 0 1, mean .5, std .5;  proprio = (5, t): t mean 1.5, std sqrt(1.25)
    config = DataConfig(split=(1.0, 0.0, 0.0))
    norm = process.process(source_of([make_episode(5)]), config, tmp_path).norm
    np.testing.assert_allclose(norm["action"].mean, [5.15, 0.5], rtol=1e-6)
    np.testing.assert_allclose(norm["action"].std, [0.1118034, 0.5], rtol=1e-5)
    np.testing.assert_allclose(norm["action"].minimum, [5.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(norm["action"].maximum, [5.3, 1.0], rtol=1e-6)
    np.testing.assert_allclose(norm["proprio"].mean, [5.0, 1.5], rtol=1e-6)
    np.testing.assert_allclose(norm["proprio"].std, [0.0, 1.25**0.5], atol=1e-6)


def test_failures_are_dropped_and_unknown_ones_stay(tmp_path):
    success = [True, False, None, False, True]
    source = source_of(make_episode(i, success=s) for i, s in enumerate(success))
    processed = process.process(source, DataConfig(), tmp_path / "a")
    assert processed.counts["failed"] == 2
    assert [e.index for e in processed.episodes] == [0, 2, 4]
    kept = process.process(
        source, DataConfig(cleaning=CleaningConfig(failed=False)), tmp_path / "b"
    )
    assert len(kept.episodes) == 5


def test_duplicates_are_dropped_before_the_split(tmp_path):
    twins = [make_episode(i, episode_id=f"{c}-{i}") for c in "ab" for i in range(10)]
    processed = process.process(source_of(twins), DataConfig(), tmp_path / "a")
    assert processed.counts["duplicate"] == 10
    assert [e.index for e in processed.episodes] == list(range(10))
    both = process.process(
        source_of(twins), DataConfig(cleaning=CleaningConfig(duplicates=False)), tmp_path / "b"
    )
    assert len(both.episodes) == 20


def test_repeated_ids_of_different_episodes_are_told_apart(tmp_path):
    source = source_of(make_episode(i, episode_id="same") for i in range(4))
    names = [e.episode_id for e in process.process(source, DataConfig(), tmp_path).episodes]
    assert len(set(names)) == 4
    assert names[0] == "same"
    assert all(n.startswith("same~") for n in names[1:])


def test_an_appended_episode_with_a_used_id_moves_none(tmp_path):
    episodes = [make_episode(i) for i in range(9)]
    first = parts(process.process(source_of(episodes), DataConfig(), tmp_path))
    more = [*episodes, make_episode(9, episode_id="e-003")]
    grown = parts(process.process(source_of(more), DataConfig(), tmp_path))
    assert {i: grown[i] for i in first} == first
    assert len(grown) == 10


def with_nan(i, step, name="action"):
    episode = make_episode(i)
    target = episode.action if name == "action" else episode.observation[name]
    target[step, 1] = np.nan
    return episode


STRICT = DataConfig(cleaning=CleaningConfig(corrupt="error"))


@pytest.mark.parametrize("name", ["action", "proprio"])
def test_nan_names_episode_and_step_and_leaves_nothing(tmp_path, name):
    source = source_of([make_episode(0), with_nan(1, 2, name)])
    with pytest.raises(InputError, match=f"episode 'e-001', step 2: {name} holds NaN"):
        process.process(source, STRICT, tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_nan_is_set_aside(tmp_path):
    source = source_of([make_episode(0), with_nan(1, 2), make_episode(2)])
    processed = process.process(source, DataConfig(), tmp_path)
    assert processed.counts["corrupt"] == 1
    (dropped,) = [e for e in processed.all_episodes() if e.dropped]
    assert (dropped.index, dropped.dropped) == (1, "corrupt")
    assert dropped.why == "episode 'e-001', step 2: action holds NaN or infinite values"
    assert [e.index for e in processed.episodes] == [0, 2]


def test_nan_in_a_failed_episode_does_not_matter(tmp_path):
    failed = dataclasses.replace(with_nan(1, 0), metadata=make_episode(1, success=False).metadata)
    processed = process.process(source_of([make_episode(0), failed]), DataConfig(), tmp_path)
    assert processed.counts["failed"] == 1


def test_nothing_left_says_why(tmp_path):
    source = source_of(make_episode(i, success=False) for i in range(2))
    with pytest.raises(
        InputError, match="no episodes left of 2: dropped 2 failed, 0 corrupt, 0 truncated, 0 dup"
    ):
        process.process(source, DataConfig(), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_the_test_part_is_locked(source, tmp_path):
    processed = process.process(source, DataConfig(), tmp_path)
    with pytest.raises(InputError, match="the test part is locked"):
        processed.indices("test")
    with pytest.raises(InputError, match="needs a reason"):
        processed.unlock_test("  ")
    assert not (tmp_path / "test_reads.jsonl").exists()
    test = processed.unlock_test("final figure")
    assert len(test) == 3
    everything = {*test, *processed.indices("train"), *processed.indices("val")}
    assert everything == set(range(20))
    (line,) = (tmp_path / "test_reads.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["reason"] == "final figure"
    assert record["dataset_hash"] == processed.dataset_hash
    with pytest.raises(InputError, match="part must be one of"):
        processed.indices("training")


def test_processing_again_changes_nothing(source, tmp_path):
    first = process.process(source, DataConfig(), tmp_path)
    before = {f: (tmp_path / f).stat().st_mtime_ns for f in FILES}
    again = process.process(source, DataConfig(loader="host"), tmp_path)
    assert again.dataset_hash == first.dataset_hash
    assert {f: (tmp_path / f).stat().st_mtime_ns for f in FILES} == before


def test_an_interrupted_run_is_done_again(source, tmp_path):
    # source.json is written last: without it the other two do not count as finished.
    first = process.process(source, DataConfig(), tmp_path)
    (tmp_path / "source.json").unlink()
    (tmp_path / "statistics.json").write_text("{}")
    again = process.process(source, DataConfig(), tmp_path)
    assert again.episodes == first.episodes
    assert set(again.norm) == {"action", "proprio"}


def test_a_kill_between_the_files_is_noticed(source, tmp_path, monkeypatch):
    process.process(source, DataConfig(), tmp_path)
    other = DataConfig(split=(0.5, 0.25, 0.25))
    with monkeypatch.context() as patch:
        patch.setattr(process, "EPISODES_FILE", "no/such\0name")
        with pytest.raises(ValueError, match="null"):
            process.process(source, other, tmp_path)
    with pytest.raises(InputError, match=r"source.json: missing; run the process stage first"):
        process.load(tmp_path)


def test_a_growing_dataset_keeps_its_split(source, tmp_path):
    small = source_of(make_episode(i) for i in range(10))
    first = parts(process.process(small, DataConfig(), tmp_path))
    grown = parts(process.process(source, DataConfig(), tmp_path))
    assert {i: grown[i] for i in first} == first
    assert len(grown) == 20


def test_other_shares_split_anew(source, tmp_path):
    process.process(source, DataConfig(), tmp_path)
    processed = process.process(source, DataConfig(split=(0.5, 0.25, 0.25)), tmp_path)
    assert len(processed.indices("train")) == 10


def test_the_hash_follows_data_and_config(source, tmp_path):
    def digest(source, config, name):
        return process.process(source, config, tmp_path / name).dataset_hash

    first = digest(source, DataConfig(), "a")
    other = source_of(make_episode(i) for i in range(19))
    assert digest(other, DataConfig(), "b") != first
    assert digest(source, DataConfig(proprio=False), "c") != first
    assert digest(source, DataConfig(loader="host", cache_budget_mb=1), "d") == first


class TestLimits:
    """Where the limits of the action come from, and whether the data keeps to them."""

    UNKNOWN = dataclasses.replace(
        SPEC,
        action=dataclasses.replace(SPEC.action, minimum=(-3e38, 0.0), maximum=(3e38, 1.0)),
    )
    # Actions of episode i are (i + t / 10, t % 2), t = 0 .. 3.
    GIVEN = DataConfig(action_minimum=(0.0, 0.0), action_maximum=(19.3, 1.0))

    def limits(self, source, config, tmp_path):
        action = process.process(source, config, tmp_path).spec.action
        return action.minimum, action.maximum, action.limits_from

    def test_declared_ones_are_the_robots(self, source, tmp_path):
        found = self.limits(source, DataConfig(), tmp_path)
        assert found == ((-1.0, 0.0), (1.0, 1.0), "robot")

    def test_else_the_extremes_of_the_training_data_and_a_warning(self, tmp_path):
        source = MemorySource([make_episode(i) for i in range(20)], self.UNKNOWN)
        config = DataConfig(split=(1.0, 0.0, 0.0))
        low, high, source_of_limits = self.limits(source, config, tmp_path)
        np.testing.assert_allclose((low, high), [[0.0, 0.0], [19.3, 1.0]], rtol=1e-6)
        assert source_of_limits == "data extremes"
        warnings = json.loads((tmp_path / "card.json").read_text())["warnings"]
        assert any("state data.action_minimum" in w for w in warnings)

    def test_given_ones_win_and_change_no_statistics(self, source, tmp_path):
        found = self.limits(source, self.GIVEN, tmp_path / "a")
        assert found == ((0.0, 0.0), (19.3, 1.0), "settings")
        plain = process.process(source, DataConfig(), tmp_path / "b")
        given = process.load(tmp_path / "a")
        for a, b in zip(plain.norm["action"], given.norm["action"], strict=True):
            np.testing.assert_array_equal(a, b)
        assert plain.dataset_hash != given.dataset_hash

    def test_training_actions_outside_are_counted_by_element(self, source, tmp_path):
        # All of train: actions 19.0, 19.1, 19.2, 19.3 of episode 19 are above 18.95, and the
        # second element is 1 in two of four steps of 20 episodes.
        config = DataConfig(
            split=(1.0, 0.0, 0.0), action_minimum=(0.0, 0.0), action_maximum=(18.95, 0.5)
        )
        with pytest.raises(InputError) as e:
            process.process(source, config, tmp_path)
        assert (
            "outside: 'dq' in 4 of 80 steps (limits 0 to 18.95), "
            "'gripper' in 40 of 80 steps (limits 0 to 0.5); widen" in str(e.value)
        )
        assert not list(tmp_path.iterdir())

    def test_the_hash_of_a_dataset_without_them_is_what_it_was(self):
        # Computed before there were such settings.
        assert process._hash("f", DataConfig()) == (
            "f07d0de5bce37efd278db8fd32da10c8049d27b722d41c831994ec65103feb1c"
        )


def test_check_names_the_folder(source, tmp_path):
    processed = process.process(source, DataConfig(), tmp_path)
    processed.check(source)
    with pytest.raises(InputError, match="made from other data"):
        processed.check(source_of([make_episode(0)]))


class TestSelection:
    """Which keys reach the policy."""

    def keys(self, **config):
        return process.select_spec(SPEC, DataConfig(**config)).keys

    def test_privileged_state_only_where_it_is_asked_for(self):
        assert self.keys() == ("image/wrist", "mask/wrist", "proprio")
        assert self.keys(proprio=False, privileged=True) == (
            "image/wrist",
            "mask/wrist",
            "privileged",
        )

    def test_privileged_state_has_statistics_of_the_train_part(self, source, tmp_path):
        processed = process.process(source, DataConfig(privileged=True), tmp_path)
        train = [source.load(i) for i in processed.indices("train")]
        rows = np.concatenate([e.observation["privileged"] for e in train])
        np.testing.assert_allclose(processed.norm["privileged"].mean, rows.mean(0), atol=1e-5)
        assert "privileged" not in process.process(source, DataConfig(), tmp_path / "b").norm

    def test_switches(self):
        assert self.keys(proprio=False) == ("image/wrist", "mask/wrist")
        bridge = process.select_spec(
            open_source(BRIDGE).spec, DataConfig(cameras=("image_1",), language=False)
        )
        assert bridge.keys == ("image/image_1", "mask/image_1", "proprio")

    def test_a_missing_camera_names_those_there_are(self):
        message = "data.cameras: no camera 'front' in the dataset; there are: wrist"
        with pytest.raises(InputError, match=message):
            self.keys(cameras=("wrist", "front"))

    def test_something_must_be_left(self):
        spec = dataclasses.replace(SPEC, observation=SPEC.observation[2:3])
        with pytest.raises(InputError, match="nothing left for the policy to see"):
            process.select_spec(spec, DataConfig())

    def test_action_meaning_can_be_stated(self):
        config = DataConfig(
            action_kind="joint_position",
            action_names=("a", "b"),
            action_units=("m", "1"),
            control_hz=7.0,
        )
        action = process.select_spec(SPEC, config).action
        assert (action.kind, action.names, action.units) == (
            "joint_position",
            ("a", "b"),
            ("m", "1"),
        )
        assert action.control_hz == 7.0
        assert action.minimum == SPEC.action.minimum

    def test_names_and_units_of_proprioception_can_be_stated(self):
        config = DataConfig(proprio_names=("q", "g"), proprio_units=("rad", "1"))
        assert process.select_spec(SPEC, config)["proprio"].describe() == "q (rad), g (no unit)"
        wrong = DataConfig(proprio_names=("q",))
        with pytest.raises(InputError, match="data.proprio_names has 1 entries, proprio has 2"):
            process.select_spec(SPEC, wrong)

    def test_limits_that_are_given_win(self):
        config = DataConfig(action_minimum=(-9.0, -8.0), action_maximum=(9.0, 8.0))
        action = process.select_spec(SPEC, config).action
        assert (action.minimum, action.maximum) == ((-9.0, -8.0), (9.0, 8.0))
        assert action.limits_from == "settings"
        wrong = DataConfig(action_minimum=(0.0,) * 3, action_maximum=(1.0,) * 3)
        with pytest.raises(InputError, match="have 3 entries, the action has 2: dq, gripper"):
            process.select_spec(SPEC, wrong)

    @pytest.mark.parametrize("field", ["action_names", "action_units"])
    def test_of_the_right_size(self, field):
        with pytest.raises(InputError, match=f"data.{field} has 3 entries, the action has 2"):
            process.select_spec(SPEC, DataConfig(**{field: ("a", "b", "c")}))


def test_bridge(tmp_path):
    processed = process.process(open_source(BRIDGE), DataConfig(control_hz=5.0), tmp_path)
    expected = {"found": 50, "duplicate": 25, "kept": 25, "train": 18, "val": 4, "test": 3}
    assert expected.items() <= processed.counts.items()
    # Nobody declared bounds: they are those of the train part.
    action = processed.spec.action
    np.testing.assert_allclose(action.minimum, processed.norm["action"].minimum)
    np.testing.assert_allclose(action.maximum, processed.norm["action"].maximum)
    assert (action.minimum[6], action.maximum[6], action.control_hz) == (0.0, 1.0, 5.0)


@pytest.mark.parametrize("name", sorted(STATE))
def test_missing_and_malformed_files_are_named(source, tmp_path, name):
    process.process(source, DataConfig(), tmp_path)
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text[:50])
    with pytest.raises(InputError, match=f"{name}: cannot read"):
        process.load(tmp_path)
    (tmp_path / name).write_text("[]")
    with pytest.raises(InputError, match="malformed; delete it and process again"):
        process.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: missing; run the process stage first"):
        process.load(tmp_path)


def test_an_unwritable_folder_is_named(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot create this folder"):
        process.process(source, DataConfig(), tmp_path / "file")


def test_a_split_stays_when_episodes_are_added_even_in_a_new_folder(tmp_path):
    episodes = [make_episode(i, task=f"task {i % 3}") for i in range(30)]
    small = parts(process.process(source_of(episodes[:17]), DataConfig(), tmp_path / "a"))
    grown = parts(process.process(source_of(episodes), DataConfig(), tmp_path / "b"))
    assert {i: grown[i] for i in small} == small


def test_a_split_stays_when_the_dataset_is_reordered(source, tmp_path):
    first = parts(process.process(source, DataConfig(), tmp_path))
    order = np.random.default_rng(0).permutation(20)
    shuffled = source_of([*(make_episode(i) for i in order), make_episode(20)])
    again = process.process(shuffled, DataConfig(), tmp_path)
    assert {i: p for i, p in parts(again).items() if i in first} == first
    names = [e.episode_id for e in again.all_episodes()]
    assert names == [*(f"e-{i:03d}" for i in order), "e-020"]


def test_an_episode_that_comes_back_keeps_what_it_can(source, tmp_path):
    # Dropped at first, so it had no part; the others keep theirs.
    episodes = list(source)
    failed = dataclasses.replace(
        episodes[3], metadata=dataclasses.replace(episodes[3].metadata, success=False)
    )
    first = parts(
        process.process(source_of([*episodes[:3], failed, *episodes[4:]]), DataConfig(), tmp_path)
    )
    again = parts(process.process(source, DataConfig(), tmp_path))
    assert "e-003" not in first
    assert {i: again[i] for i in first} == first


class BrokenSource(MemorySource):
    """Episode 2 cannot be read."""

    def load(self, i, cameras=None):
        if i == 2:
            raise InputError("shard-1: corrupt: record at byte 7 fails its checksum")
        return super().load(i, cameras)


def test_an_unreadable_episode_is_quarantined_with_the_reason(tmp_path):
    source = BrokenSource([make_episode(i) for i in range(6)], SPEC)
    processed = process.process(source, DataConfig(), tmp_path / "a")
    (bad,) = [e for e in processed.all_episodes() if not e.part]
    assert (bad.index, bad.episode_id, bad.length, bad.dropped) == (2, "#2", 0, "corrupt")
    assert bad.why.startswith("shard-1: corrupt")
    assert processed.counts["kept"] == 5
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    assert card["warnings"][0] == "set aside as unreadable: 1 episode"
    with pytest.raises(InputError, match=r"shard-1: corrupt.*; repair the data or set"):
        process.process(source, STRICT, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_nothing_readable_says_so(tmp_path):
    source = source_of([with_nan(0, 1), with_nan(1, 2)])
    with pytest.raises(InputError, match="no episode can be read; the first: episode 'e-000'"):
        process.process(source, DataConfig(), tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_lines_that_make_no_sense_are_malformed(source, tmp_path):
    process.process(source, DataConfig(), tmp_path)
    path = tmp_path / "episodes.jsonl"
    path.write_text(path.read_text().replace('"index": 4', '"index": "four"'))
    with pytest.raises(InputError, match="malformed; delete it and process again"):
        process.load(tmp_path)


def test_lengths_go_with_indices(tmp_path):
    source = source_of(make_episode(i, 4 + i) for i in range(10))
    processed = process.process(source, DataConfig(), tmp_path)
    for part in ("train", "val"):
        assert processed.lengths(part).tolist() == [4 + i for i in processed.indices(part)]

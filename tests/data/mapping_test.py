import pytest

from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import DataConfig, mapping, open_source
from jaxpolicy.data.mapping import Column
from jaxpolicy.data.reader import Declared, Field
from tests.data.episodes import BRIDGE

FOREIGN = BRIDGE.parent / "foreign"


def vector(name, size, **facts):
    return Field(name, "number", (size,), **facts)


def picture(name, **facts):
    return Field(name, "image", (4, 6, 3), "uint8", **facts)


def layout(*fields, declared=None, **config):
    by_name = {f.name: f for f in fields}
    return mapping.layout(by_name, declared or Declared(), DataConfig(**config), "d")


def whole(*names):
    return tuple(map(Column, names))


ACTION = vector("action", 3)
STATE = vector("observation/state", 5)


class TestProprioception:
    """Every element has a name and a unit, as far as the files tell them."""

    def spec(self, *fields, **config):
        return layout(ACTION, *fields, **config).spec["proprio"]

    def test_names_of_the_file(self):
        names = ("shoulder.pos", "gripper.pos")
        found = self.spec(vector("observation.state", 2, names=names))
        assert found.names == names
        part = self.spec(vector("observation.state", 2, names=names), proprio_keys=("state[1:2]",))
        assert part.names == ("gripper.pos",)

    def test_else_those_of_the_fields_with_positions(self):
        found = self.spec(vector("observation/joint_position", 2), vector("gripper_position", 1))
        assert found.names == ("joint_position_0", "joint_position_1", "gripper_position")

    def test_names_that_are_not_unique_are_none(self):
        found = self.spec(vector("observation.state", 2, names=("q", "q")))
        assert found.names == ()
        assert found.elements == ("proprio_0", "proprio_1")

    @pytest.mark.parametrize(
        ("doc", "unit"),
        [
            ("rad", "rad"),
            ("Unit: rad,m.", "rad,m"),
            ("Unit: rad, m.", "rad,m"),
            # Of another number of elements, or not about units at all.
            ("Unit: rad,m,m.", ""),
            ("Robot state, consists of joint angles", ""),
            ("", ""),
        ],
    )
    def test_units_where_the_description_is_about_them(self, doc, unit):
        assert self.spec(vector("observation/state", 2, doc=doc)).unit == unit


class TestAction:
    """Declared, configured, prescribed by the format, or by common names, in that order."""

    def test_configured_before_prescribed_before_named(self):
        fields = (ACTION, vector("command", 2), vector("target", 4))
        declared = Declared(action=("command",))
        assert layout(*fields).action == whole("action")
        assert layout(*fields, declared=declared).action == whole("command")
        both = layout(*fields, declared=declared, action_keys=("target",))
        assert both.action == whole("target")
        assert [r.why for r in both.rows if r.role] == ["data.action_keys"]

    def test_plural(self):
        assert layout(vector("actions", 2)).action == whole("actions")

    def test_group_in_the_order_of_open_x_embodiment(self):
        # In the file's order the gripper comes first; joined it is last: 3 + 3 + 1.
        fields = (
            vector("action/gripper_closedness_action", 1),
            vector("action/rotation_delta", 3),
            vector("action/terminate_episode", 3),
            vector("action/world_vector", 3),
        )
        found = layout(*fields)
        assert found.action == whole(fields[3].name, fields[1].name, fields[0].name)
        spec = found.spec.action
        assert (spec.kind, spec.units) == ("cartesian_delta", (*"mmm", *["rad"] * 3, "1"))
        assert spec.names[2:4] == ("world_vector_2", "rotation_delta_0")
        assert spec.names[6] == "gripper_closedness_action"
        roles = {r.field: r.role for r in found.rows}
        assert roles["action/rotation_delta"] == "action[3:6]"
        assert roles["action/terminate_episode"] == ""

    def test_slices_and_their_names(self):
        action = vector("action", 4, names=("x", "y", "z", "grip"))
        found = layout(action, action_keys=("action[0:2]", "action[3:4]"))
        assert found.action == (Column("action", 0, 2), Column("action", 3, 4))
        assert found.spec.action.names == ("x", "y", "grip")
        assert found.rows[0].role == "action[0:2], action[2:3]"

    def test_names_that_repeat_or_do_not_fit_are_numbered(self):
        for names in [("x", "x", "y"), ("x", "y")]:
            assert layout(vector("action", 3, names=names)).spec.action.names == (
                "action_0",
                "action_1",
                "action_2",
            )

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (("effort",), "d: no field 'effort'; there are: action, observation/state"),
            (("action[1:4]",), "'action.1:4.' is not within the 3 elements"),
            (("action[2:2]",), "is not within the 3 elements"),
            (("action[0]",), "no field 'action.0.'"),
        ],
    )
    def test_bad_keys(self, keys, message):
        with pytest.raises(InputError, match=message):
            layout(ACTION, STATE, action_keys=keys)

    def test_none_found(self):
        with pytest.raises(InputError, match=r"d: no action found .*action_keys; there are: a, b"):
            layout(vector("a", 2), picture("b"))
        with pytest.raises(InputError, match="there are: none"):
            layout()
        # Neither a matrix nor a vector of no elements is an action.
        for shape in [(2, 2), (0,), (None,)]:
            with pytest.raises(InputError, match="no action found"):
                layout(Field("action", "number", shape))


def test_the_last_part_of_a_name_is_enough_where_it_is_unique():
    other = vector("extra/state", 5)
    assert layout(ACTION, STATE, proprio_keys=("state",)).observation["proprio"] == whole(
        STATE.name
    )
    with pytest.raises(
        InputError, match="'state' is not unique; say which of observation/state, e"
    ):
        layout(ACTION, STATE, other, proprio_keys=("state",))


class TestProprio:
    """Configured, prescribed, or the first group of common names of which all are there."""

    def test_order(self):
        joints = vector("observation/joint_pos", 2)
        assert layout(ACTION, STATE, joints).observation["proprio"] == whole(STATE.name)
        declared = Declared(proprio=("joint_pos",))
        found = layout(ACTION, STATE, joints, declared=declared)
        assert found.observation["proprio"] == whole(joints.name)
        found = layout(ACTION, STATE, joints, declared=declared, proprio_keys=("state[1:3]",))
        assert found.observation["proprio"] == (Column(STATE.name, 1, 3),)
        assert found.spec["proprio"].shape == (2,)

    def test_a_group_needs_all_members(self):
        part = [vector("obs/robot0_eef_pos", 3), vector("obs/robot0_eef_quat", 4)]
        assert "proprio" not in layout(ACTION, *part).observation
        found = layout(ACTION, *part, vector("obs/robot0_gripper_qpos", 2))
        assert found.spec["proprio"].shape == (9,)
        assert found.rows[-1].role == "proprio[7:9]"

    def test_what_is_no_vector_or_lies_elsewhere_is_not_taken(self):
        text, matrix = Field("observation/state", "text"), Field("state", "number", (2, 2))
        for field in (text, matrix, vector("infos/state", 2)):
            assert "proprio" not in layout(ACTION, field).observation


class TestCameras:
    """Every colour picture of an observation, or those that are configured."""

    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("observation/image", "image/image"),
            ("observation.images.front", "image/front"),
            ("observations/images/cam_high", "image/cam_high"),
            ("obs/agentview_image", "image/agentview"),
            ("observation/wrist/left_rgb", "image/wrist_left"),
            ("observation/_rgb", "image/_rgb"),
        ],
    )
    def test_names(self, name, key):
        assert layout(ACTION, picture(name)).observation[key] == whole(name)

    def test_equal_names_are_told_apart(self):
        found = layout(ACTION, picture("obs/a_image"), picture("observation/a_rgb"))
        assert set(found.observation) == {"image/a", "image/observation_a_rgb"}

    def test_grey_depth_and_goals_are_not_taken(self):
        grey = Field("observation/grey", "image", (4, 6, 1), "uint8")
        found = layout(ACTION, grey, picture("goal/image"))
        assert not found.observation
        assert found.rows[1].why == "not a colour picture of an observation"

    def test_configured(self):
        fields = (ACTION, picture("observation/a"), picture("goal/b"))
        found = layout(*fields, camera_keys=("top=b",))
        assert found.observation == {"image/top": whole("goal/b")}
        with pytest.raises(InputError, match=r"'action' must be a colour picture .* number \[3\]"):
            layout(*fields, camera_keys=("top=action",))

    def test_optional_ones_get_a_mask(self):
        found = layout(ACTION, picture("observation/a", optional=True), picture("observation/b"))
        assert found.spec.keys == ("image/a", "image/b", "mask/a")


def test_language_embedding():
    found = layout(ACTION, vector("observation/natural_language_embedding", 8))
    assert found.spec["language"].shape == (8,)
    text = Field("observation/natural_language_embedding", "text")
    assert "language" not in layout(ACTION, text).observation


class TestDeclared:
    """Datasets that this library wrote say what everything is."""

    spec = DatasetSpec(
        (ArraySpec("proprio", (5,), "float32", "m"),),
        ActionSpec("joint_delta", ("a", "b", "c"), ("rad",) * 3, (-1.0,) * 3, (1.0,) * 3, 10.0),
    )
    declared = Declared({"proprio": "observation/state"}, spec, ("action",))

    def test_it_is_taken_as_it_is(self):
        found = layout(ACTION, STATE, vector("observation/proprio", 2), declared=self.declared)
        assert found.spec == self.spec
        assert found.observation == {"proprio": whole(STATE.name)}
        assert [r.why for r in found.rows] == ["declared", "declared", "no rule takes it"]

    def test_it_must_agree_with_the_file(self):
        with pytest.raises(InputError, match=r"'observation/state' is number \[4\], .* says \[5\]"):
            layout(ACTION, vector(STATE.name, 4), declared=self.declared)
        other = Field(STATE.name, "other", (5,), "")
        with pytest.raises(InputError, match=r"'observation/state' is other \[5\]"):
            layout(ACTION, other, declared=self.declared)
        with pytest.raises(InputError, match="no field 'action'"):
            layout(STATE, declared=self.declared)

    def test_keys_would_be_ignored_and_are_refused(self):
        with pytest.raises(InputError, match=r"declares itself .* leave data.proprio_keys empty"):
            layout(ACTION, STATE, declared=self.declared, proprio_keys=("state",))


@pytest.mark.parametrize(
    "place",
    ["tfds_oxe", "tfds_sequential", "robomimic/low_dim.hdf5", "minari_dict", "lerobot_v3_h264"],
)
def test_every_field_of_a_foreign_dataset_has_a_reason(place):
    source = open_source(FOREIGN / place)
    assert {r.field for r in source.layout.rows} == set(source.reader.fields)
    assert all(r.why for r in source.layout.rows)
    read = [r for r in source.layout.rows if r.why.startswith("read as it is")]
    assert not [r for r in read if r.role]


def test_open_x_embodiment():
    found = open_source(FOREIGN / "tfds_oxe").layout
    roles = {r.field.rpartition("/")[2]: r.role for r in found.rows if r.role}
    assert roles == {
        "world_vector": "action[0:3]",
        "rotation_delta": "action[3:6]",
        "gripper_closedness_action": "action[6:7]",
        "base_pose_tool_reached": "proprio[0:7]",
        "gripper_closed": "proprio[7:8]",
        "image": "image/image",
        "natural_language_embedding": "language",
    }
    assert found.spec["proprio"].shape == (8,)

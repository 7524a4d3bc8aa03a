"""Which field of a dataset becomes which part of a step: declared, configured or inferred.

The rules know names, not formats. They are tried in this order: what the dataset declares
because this library wrote it, what `DataConfig` says, what the format prescribes, common
names. `Layout.rows` tells for every field what became of it and why.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxpolicy.core.specs import (
    IMAGE_PREFIX,
    ActionSpec,
    ArraySpec,
    InputError,
    is_camera,
    mask_key,
)
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.reader import Declared, Field

__all__ = ["UNBOUNDED", "Column", "Layout", "Row", "layout"]

# Bounds of actions that nobody declared.
UNBOUNDED = 3.0e38

# Prefixes under which observations lie, longest first: robomimic, ALOHA, LeRobot, RLDS.
_CONTAINERS = (
    "observations/images/",
    "observation.images.",
    "observation/images/",
    "observations/",
    "observation/",
    "observation.",
    "obs/",
)
_CAMERA_SUFFIXES = ("_image", "_rgb")
_ACTION_NAMES = ("action", "actions")
# Members of an action that is a group, in the order that Open X-Embodiment tools use.
_ACTION_GROUPS = (
    ("world_vector", "rotation_delta", "gripper_closedness_action"),
    ("world_vector", "rotation_delta", "gripper_closed"),
    ("world_vector", "rotation_delta", "open_gripper"),
    ("cartesian_velocity", "gripper_velocity"),
    ("cartesian_position", "gripper_position"),
    ("joint_position", "gripper_position"),
)
# Proprioception by common names; the first group of which all members exist. Sources:
# Open X-Embodiment (RLDS), robomimic, LeRobot, ALOHA, DROID, Minari.
_PROPRIO_GROUPS = (
    ("proprio",),
    ("state",),
    ("robot_state",),
    ("qpos",),
    ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"),
    ("joint_position", "gripper_position"),
    ("joint_positions", "gripper_position"),
    ("joint_pos", "gripper_pos"),
    ("EEF_state", "gripper_state"),
    ("eef_state", "gripper_state"),
    ("base_pose_tool_reached", "gripper_closed"),
    ("joint_states", "gripper_states"),
    ("joint_pos",),
    ("joint_state",),
    ("joint_position",),
    ("end_effector_state",),
    ("observation",),
    ("observations",),
)
_LANGUAGE_NAMES = ("language_embedding", "natural_language_embedding")
_RELATIVE = {"world_vector": "m", "rotation_delta": "rad"}
# Units as descriptions of features give them, alone or as our writer of RLDS puts them.
_UNITS = {"m", "m/s", "rad", "rad/s", "deg", "deg/s", "N", "N m", "s", "1"}
_DOC = re.compile(r"(Unit: )?(?P<units>.*?)\.?", re.DOTALL)
_KEY = re.compile(r"(?P<name>.+?)(\[(?P<start>\d+):(?P<stop>\d+)\])?\Z")


class Column(NamedTuple):
    """Elements [start, stop) of one field; None: all of it."""

    field: str
    start: int | None = None
    stop: int | None = None


class Row(NamedTuple):
    """What became of one field, for people.

    Attributes:
      field: its name in the file.
      shape: of one step, with dtype.
      role: `image/<camera>`, `proprio[a:b]`, `action[a:b]`, `language`, or "" for unused.
      why: what decided it.
    """

    field: str
    shape: str
    role: str
    why: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the parts of a step are found.

    Attributes:
      observation: key of ours -> columns that are joined into it.
      action: columns that are joined into the action.
      spec: what a step then holds.
      rows: one per field, for people.
    """

    observation: Mapping[str, tuple[Column, ...]]
    action: tuple[Column, ...]
    spec: DatasetSpec
    rows: tuple[Row, ...]


class _Choice(NamedTuple):
    """Columns for one key of ours and what chose them."""

    columns: tuple[Column, ...]
    why: str


def layout(
    fields: Mapping[str, Field], declared: Declared, config: DataConfig, where: str
) -> Layout:
    """Layout of a dataset of `fields`.

    Raises:
      InputError: a configured field that is not there (names those that are), a field that
        cannot play its part, or no action.
    """
    if declared.spec is not None:
        _check_not_configured(config, where)
        return _declared(fields, declared, declared.spec, where)
    action = _action(fields, declared, config, where)
    observation = {
        **_cameras(fields, config, where),
        **_proprio(fields, declared, config, action.columns, where),
        **_language(fields),
    }
    specs = [_array_spec(k, c.columns, fields) for k, c in observation.items()]
    specs += [
        ArraySpec(mask_key(k), (), "bool")
        for k, c in observation.items()
        if is_camera(k) and fields[c.columns[0].field].optional
    ]
    spec = DatasetSpec(
        tuple(sorted(specs, key=lambda s: s.name)), _action_spec(action.columns, fields, declared)
    )
    return Layout(
        {k: c.columns for k, c in observation.items()},
        action.columns,
        spec,
        _rows(fields, {**observation, "action": action}),
    )


def _check_not_configured(config: DataConfig, where: str) -> None:
    """Raises InputError where keys are configured for a dataset that needs none."""
    given = [k for k in ("camera_keys", "action_keys", "proprio_keys") if getattr(config, k)]
    if given:
        raise InputError(
            f"{where}: declares itself what each field is; leave data.{given[0]} empty, and "
            "choose with data.cameras, data.proprio"
        )


def _declared(
    fields: Mapping[str, Field], declared: Declared, spec: DatasetSpec, where: str
) -> Layout:
    """Layout of a dataset that this library wrote."""
    observation = {s.name: (Column(declared.observation[s.name]),) for s in spec.observation}
    action = tuple(map(Column, declared.action))
    wanted = [*((observation[s.name][0], s.shape) for s in spec.observation)]
    wanted += [(action[0], (spec.action.size,))]
    for column, shape in wanted:
        field = _require(fields, column.field, where)
        if field.kind not in ("image", "number") or field.shape != shape:
            raise InputError(
                f"{where}: '{field.name}' is {field.kind} {list(field.shape)}, the dataset's "
                f"jaxpolicy.json says {list(shape)}"
            )
    choices = {k: _Choice(c, "declared") for k, c in observation.items()}
    return Layout(
        observation, action, spec, _rows(fields, {**choices, "action": _Choice(action, "declared")})
    )


# ------------------------------------------------------------------ finding fields


def _require(fields: Mapping[str, Field], key: str, where: str) -> Field:
    """The field named `key`, or the only one whose name ends with it."""
    if key in fields:
        return fields[key]
    near = [n for n in fields if n.endswith(("/" + key, "." + key))]
    if len(near) == 1:
        return fields[near[0]]
    if near:
        raise InputError(f"{where}: field '{key}' is not unique; say which of {', '.join(near)}")
    raise InputError(f"{where}: no field '{key}'; there are: {', '.join(fields) or 'none'}")


def _column(fields: Mapping[str, Field], key: str, where: str) -> Column:
    """`name` or `name[a:b]` as a Column of an existing vector."""
    match = _KEY.match(key)
    name = match["name"] if match else key
    field = _require(fields, name, where)
    if not _is_vector(field):
        raise InputError(
            f"{where}: field '{field.name}' must be a vector of fixed size to be joined, "
            f"it is {field.kind} {list(field.shape)}"
        )
    if match is None or match["start"] is None:
        return Column(field.name)
    start, stop = int(match["start"]), int(match["stop"])
    if not start < stop <= _size(field):
        raise InputError(f"{where}: '{key}' is not within the {_size(field)} elements of the field")
    return Column(field.name, start, stop)


def _is_vector(field: Field) -> bool:
    return field.kind == "number" and len(field.shape) <= 1 and all(field.shape)


def _is_picture(field: Field) -> bool:
    return field.kind == "image" and len(field.shape) == 3 and field.shape[2] == 3


def _size(field: Field) -> int:
    return (field.shape[0] or 0) if field.shape else 1


def _leaf(name: str) -> str:
    """Name without the levels above it."""
    return re.split(r"[/.]", name)[-1]


def _inner(name: str) -> str:
    """Name without the container of observations."""
    prefix = next((c for c in _CONTAINERS if name.startswith(c)), "")
    return name.removeprefix(prefix)


def _is_observation(name: str) -> bool:
    return name.startswith(_CONTAINERS) or not re.search(r"[/.]", name)


# ------------------------------------------------------------------ parts of a step


def _action(
    fields: Mapping[str, Field], declared: Declared, config: DataConfig, where: str
) -> _Choice:
    if config.action_keys:
        columns = tuple(_column(fields, k, where) for k in config.action_keys)
        return _Choice(columns, "data.action_keys")
    if declared.action:
        return _Choice(tuple(_column(fields, k, where) for k in declared.action), "the format")
    for name in _ACTION_NAMES:
        if name in fields and _is_vector(fields[name]):
            return _Choice((Column(name),), f"named '{name}'")
    group = {_leaf(n): f for n, f in fields.items() if n.startswith(("action/", "action."))}
    vectors = {n: f for n, f in group.items() if _is_vector(f)}
    for names in _ACTION_GROUPS:
        if all(n in vectors for n in names):
            columns = tuple(Column(vectors[n].name) for n in names)
            return _Choice(columns, f"group of {' + '.join(names)}")
    raise InputError(
        f"{where}: no action found (looked for a vector 'action' or 'actions' and for known "
        f"groups); name it with data.action_keys; there are: {', '.join(fields) or 'none'}"
    )


def _cameras(fields: Mapping[str, Field], config: DataConfig, where: str) -> dict[str, _Choice]:
    if config.camera_keys:
        pairs = [pair.split("=", 1) for pair in config.camera_keys]
        return {
            IMAGE_PREFIX + camera: _Choice((_picture(fields, key, where),), "data.camera_keys")
            for camera, key in pairs
        }
    found: dict[str, _Choice] = {}
    for field in fields.values():
        if _is_picture(field) and _is_observation(field.name):
            found[_camera_key(field.name, found)] = _Choice((Column(field.name),), "a picture")
    return found


def _picture(fields: Mapping[str, Field], key: str, where: str) -> Column:
    field = _require(fields, key, where)
    if not _is_picture(field):
        raise InputError(
            f"{where}: field '{field.name}' must be a colour picture [H, W, 3], it is "
            f"{field.kind} {list(field.shape)}"
        )
    return Column(field.name)


def _camera_key(name: str, taken: Iterable[str]) -> str:
    """`image/<camera>`, with the levels that tell it from the others."""
    camera = re.sub(r"[/.]", "_", _inner(name))
    for suffix in _CAMERA_SUFFIXES:
        camera = camera.removesuffix(suffix) or camera
    key = IMAGE_PREFIX + camera
    return key if key not in taken else IMAGE_PREFIX + re.sub(r"[/.]", "_", name)


def _proprio(
    fields: Mapping[str, Field],
    declared: Declared,
    config: DataConfig,
    action: Sequence[Column],
    where: str,
) -> dict[str, _Choice]:
    if config.proprio_keys:
        columns = tuple(_column(fields, k, where) for k in config.proprio_keys)
        return {"proprio": _Choice(columns, "data.proprio_keys")}
    if declared.proprio:
        columns = tuple(_column(fields, k, where) for k in declared.proprio)
        return {"proprio": _Choice(columns, "the format")}
    used = {c.field for c in action}
    vectors = {
        _inner(n): n
        for n, f in fields.items()
        if n not in used and _is_vector(f) and _is_observation(n)
    }
    for names in _PROPRIO_GROUPS:
        if all(n in vectors for n in names):
            columns = tuple(Column(vectors[n]) for n in names)
            return {"proprio": _Choice(columns, f"named {' + '.join(names)}")}
    return {}


def _language(fields: Mapping[str, Field]) -> dict[str, _Choice]:
    for name, field in fields.items():
        if _leaf(name) in _LANGUAGE_NAMES and _is_vector(field):
            return {"language": _Choice((Column(name),), f"named '{_leaf(name)}'")}
    return {}


# ------------------------------------------------------------------ what a step holds


def _columns_size(columns: Sequence[Column], fields: Mapping[str, Field]) -> int:
    return sum(_width(c, fields) for c in columns)


def _width(column: Column, fields: Mapping[str, Field]) -> int:
    if column.start is None or column.stop is None:
        return _size(fields[column.field])
    return column.stop - column.start


def _array_spec(key: str, columns: Sequence[Column], fields: Mapping[str, Field]) -> ArraySpec:
    if is_camera(key):
        return ArraySpec(key, tuple(d or 0 for d in fields[columns[0].field].shape), "uint8")
    size = _columns_size(columns, fields)
    if key == "language":
        return ArraySpec(key, (size,), "float32")
    doc = fields[columns[0].field].doc if len(columns) == 1 else ""
    names = tuple(n for c in columns for n in _element_names(c, fields))
    is_told = len(names) == size and len(set(names)) == size
    return ArraySpec(key, (size,), "float32", _unit(doc, size), names=names if is_told else ())


def _unit(doc: str, size: int) -> str:
    """What a description says about units, "" where it says something else."""
    match = _DOC.fullmatch(doc.strip())
    units = [u.strip() for u in match["units"].split(",")] if match else []
    return ",".join(units) if len(units) in (1, size) and set(units) <= _UNITS else ""


def _action_spec(
    columns: Sequence[Column], fields: Mapping[str, Field], declared: Declared
) -> ActionSpec:
    """What names tell of the action; the rest is unknown and may be configured."""
    size = _columns_size(columns, fields)
    names = declared.action_names or tuple(n for c in columns for n in _element_names(c, fields))
    if len(names) != size or len(set(names)) != size:
        names = tuple(f"action_{i}" for i in range(size))
    leaves = [_leaf(c.field) for c in columns]
    is_relative = all(n in leaves for n in _RELATIVE)
    kind = declared.action_kind or ("cartesian_delta" if is_relative else "unknown")
    units = declared.action_units or tuple(
        _RELATIVE.get(_leaf(c.field), "1") for c in columns for _ in range(_width(c, fields))
    )
    units = units if len(units) == size else ("1",) * size
    bounds = (-UNBOUNDED,) * size, (UNBOUNDED,) * size
    return ActionSpec(kind, names, units, *bounds, control_hz=declared.control_hz)


def _element_names(column: Column, fields: Mapping[str, Field]) -> tuple[str, ...]:
    field = fields[column.field]
    size, leaf, names = _size(field), _leaf(field.name), field.names
    if len(names) != size and leaf not in _ACTION_NAMES:
        names = (leaf,) if size == 1 else tuple(f"{leaf}_{i}" for i in range(size))
    return names[column.start : column.stop]


def _rows(fields: Mapping[str, Field], choices: Mapping[str, _Choice]) -> tuple[Row, ...]:
    roles: dict[str, list[tuple[str, str]]] = {}
    for key, choice in choices.items():
        offset = 0
        for column in choice.columns:
            width = 0 if is_camera(key) else _width(column, fields)
            place = "" if is_camera(key) or key == "language" else f"[{offset}:{offset + width}]"
            roles.setdefault(column.field, []).append((key + place, choice.why))
            offset += width
    return tuple(_row(f, roles.get(f.name, [])) for f in fields.values())


def _row(field: Field, roles: Sequence[tuple[str, str]]) -> Row:
    shape = f"{field.dtype if field.kind == 'number' else field.kind} {_dims(field.shape)}"
    role = ", ".join(r for r, _ in roles)
    why = ", ".join(dict.fromkeys(w for _, w in roles)) or _why_unused(field)
    return Row(field.name, shape, role, why)


def _dims(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


# What readers take from every step themselves, by the last part of its name.
_READ = {
    "discount": "part of every RLDS step",
    "done": "end of the episode",
    "dones": "end of the episode",
    "is_first": "start of the episode",
    "is_last": "end of the episode",
    "is_terminal": "end of the episode",
    "language_instruction": "instruction",
    "natural_language_instruction": "instruction",
    "reward": "reward",
    "rewards": "reward",
    "task_index": "instruction",
    "terminals": "end of the episode",
    "terminations": "end of the episode",
    "timeouts": "end of the episode",
    "truncations": "end of the episode",
}


def _why_unused(field: Field) -> str:
    if _leaf(field.name) in _READ:
        return f"read as it is: {_READ[_leaf(field.name)]}"
    if field.kind == "image":
        return "not a colour picture of an observation"
    if field.kind == "number" and not _is_vector(field):
        return "not a vector of fixed size"
    return "no rule takes it" if field.kind == "number" else "not an array of numbers"

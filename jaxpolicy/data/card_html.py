"""The dataset card as one page of HTML that needs nothing else."""

import html
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["page"]

_STYLE = """
:root{color-scheme:light dark;--mute:light-dark(#555,#9aa0a6);
--line:light-dark(#ddd,#3a3f44);--warn:light-dark(#fff4d6,#4a3a08)}
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;
color:light-dark(#222,#e4e6e8);background:light-dark(#fff,#16181a);overflow-wrap:anywhere}
.scroll{overflow-x:auto;overflow-wrap:normal}img{max-width:100%;height:auto}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;margin:.5em 0}td,th{padding:.15em .8em .15em 0;text-align:left}
th{font-weight:600;color:var(--mute)}td.n{text-align:right;font-variant-numeric:tabular-nums}
figure{display:inline-block;margin:0 1em 1em 0}figcaption{font-size:.8em;color:var(--mute)}
.warning{background:var(--warn);border-left:4px solid #e0a800;padding:.3em .8em;margin:.4em 0}
svg{display:block}svg rect{fill:#4477aa}
"""


def page(card: Mapping[str, Any], pictures: Sequence[Mapping[str, str]]) -> str:
    """HTML of a card.

    Args:
      card: contents of card.json.
      pictures: camera, episode, task and JPEG data in base64, episode by episode.
    """
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>Dataset card</title>"
        f"<style>{_STYLE}</style><h1>Dataset card</h1>",
        "".join(f"<p class=warning>{_text(w)}</p>" for w in card["warnings"]),
        _summary(card),
        _section("Pictures", _figures(pictures)) if pictures else "",
        _section("Lengths of episodes, steps", _histogram(card["lengths"]["histogram"]["counts"])),
        _section("Tasks", _tasks(card["tasks"])),
        _section("Action and proprioception", _columns(card["columns"])),
        _section("Dropped episodes", _dropped(card["dropped"])),
        _section("Fields of the files", _fields(card["fields"])) if card["fields"] else "",
    ]
    return "\n".join(p for p in parts if p) + "\n</html>\n"


def _text(value: Any) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _section(title: str, body: str) -> str:
    return f"<h2>{_text(title)}</h2>\n{body}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f"<th>{_text(h)}</th>" for h in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{top}</tr>{body}</table></div>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"<td class=n>{value:.4g}</td>"
    if isinstance(value, int):
        return f"<td class=n>{value:,}</td>"
    return f"<td>{_text(value)}</td>"


def _summary(card: Mapping[str, Any]) -> str:
    counts, lengths, success = card["counts"], card["lengths"], card["success"]
    rate = "unknown" if success["rate"] is None else f"{success['rate']:.1%}"
    hours = "" if card["hours"] is None else f", {card['hours']:.2f} h at {card['control_hz']:g} Hz"
    cameras = ", ".join(f"{c} {h} x {w}" for c, (h, w, _) in card["cameras"].items()) or "none"
    unsaid = f" ({success['unknown']:,} without a flag)" if success["unknown"] else ""
    rows = [
        ("Episodes found", f"{counts['found']:,}"),
        ("kept", f"{counts['kept']:,}"),
        ("train, val, test", f"{counts['train']:,}, {counts['val']:,}, {counts['test']:,}"),
        ("Steps", f"{counts['steps']:,}{hours}"),
        ("Length", f"{lengths['min']} to {lengths['max']}, median {lengths['median']:g}"),
        ("Success of all found", rate + unsaid),
        ("Tasks", f"{card['tasks']['n']:,}"),
        ("Cameras", cameras),
        ("Action", f"{card['action_kind']}"),
    ]
    return _table(("", ""), [(_cell(k), _cell(v)) for k, v in rows])


def _figures(pictures: Sequence[Mapping[str, str]]) -> str:
    """A row of cameras for every episode."""
    rows = []
    for episode, shown in itertools.groupby(pictures, key=lambda p: p["episode"]):
        cameras = list(shown)
        figures = "".join(
            f'<figure><img alt="" src="data:image/jpeg;base64,{p["data"]}">'
            f"<figcaption>{_text(p['camera'])}</figcaption></figure>"
            for p in cameras
        )
        title = (
            f"{_short(episode)}: {cameras[0]['task']}" if cameras[0]["task"] else _short(episode)
        )
        rows.append(f'<p title="{_text(episode)}">{_text(title)}</p>{figures}')
    return "".join(rows)


def _short(name: str, length: int = 48) -> str:
    """The end of a long name."""
    return name if len(name) <= length else f"…{name[-length:]}"


def _histogram(counts: Sequence[int], width: int = 180, height: int = 36) -> str:
    top, step = max([*counts, 1]), width / max(len(counts), 1)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height * (1 - n / top):.1f}" width="{step - 0.6:.1f}" '
        f'height="{height * n / top:.1f}"/>'
        for i, n in enumerate(counts)
    )
    return f'<svg width="{width}" height="{height}" role="img">{bars}</svg>'


def _tasks(tasks: Mapping[str, Any]) -> str:
    rows = [
        (_cell(t["task"] or "(none)"), _cell(t["episodes"]), *map(_cell, t["parts"]))
        for t in tasks["commonest"]
    ]
    hidden = tasks["n"] - len(rows)
    more = f"<p>and {hidden:,} more</p>" if hidden > 0 else ""
    return _table(("task", "episodes", "train", "val", "test"), rows) + more


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    statistics = ("minimum", "q01", "mean", "std", "q99", "maximum")
    rows = [
        (
            _cell(c["array"]),
            _cell(f"{c['name']} [{c['unit']}]" if c["unit"] else c["name"]),
            *(_cell(c[s]) for s in statistics),
            f"<td>{_histogram(c['histogram'])}</td>",
        )
        for c in columns
    ]
    return _table(("array", "element", *statistics, "histogram"), rows)


def _dropped(dropped: Mapping[str, Any]) -> str:
    rows = []
    for rule, found in dropped.items():
        listed = [f"{_short(e['episode_id'])} {e['why']}".strip() for e in found["episodes"][:10]]
        more = found["count"] - len(listed)
        text = "; ".join(listed) + (f"; and {more:,} more" if more > 0 else "")
        rows.append((_cell(rule), _cell(found["count"]), _cell(text)))
    return _table(("rule", "episodes", "which (all are in episodes.jsonl)"), rows)


def _fields(fields: Sequence[Mapping[str, str]]) -> str:
    names = ("field", "shape", "role", "why")
    return _table(names, [tuple(_cell(f[n]) for n in names) for f in fields])

"""report.html: one self-contained page, pictures and video inside it."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["PLOTS", "SHEETS", "render"]

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem;
  padding: 0 1rem; color: #1d2125; background: #fff; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.sub { color: #667; margin: 0 0 1.2rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; }
.card { border: 1px solid #d8dce0; border-radius: 8px; padding: .7rem 1rem; min-width: 9rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; } .card span { color: #667; }
.good b { color: #248a3d; } .acceptable b { color: #a06a00; }
.needs_improvement b { color: #c8342b; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left;
  border-bottom: 1px solid #e6e8ea; vertical-align: top; } th { font-weight: 600; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: 1rem; }
img, video { max-width: 100%; } code { font-size: .9em; } .mute { color: #667; }
"""
_LEVELS = {"good": "good", "acceptable": "acceptable", "needs_improvement": "needs improvement"}
PLOTS = (
    "success.png",
    "starts.png",
    "paths.png",
    "time.png",
    "returns.png",
    "latency.png",
    "calibration.png",
)
SHEETS = {"failures.png": "Failures", "successes.png": "Successes", "episodes.png": "Episodes"}


def render(report: Mapping[str, Any], pictures: Mapping[str, bytes], video: bytes = b"") -> str:
    """The page.

    Args:
      report: content of report.json.
      pictures: file name -> PNG bytes.
      video: MP4 bytes, empty for none.
    """
    title = f"Evaluation of '{report['task']}'"
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="sub">{_text(_subtitle(report))}</p>',
        _cards(report),
        _verdict(report["verdict"]),
        _plots(pictures),
        _failures(report),
        _groups("By task", report["per_task"]),
        _groups("By variation", report["per_variation"]),
        _sheets(pictures),
        _film(video),
        _not_measured(report["not_measured"]),
        _table("Versions", ("what", "version"), report["versions"].items()),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    text = "\n".join(part for part in body if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{text}\n</body></html>\n'


def _text(value: Any) -> str:
    return html.escape(str(value))


def _subtitle(report: Mapping[str, Any]) -> str:
    names = ("policy", "checkpoint", "dataset_hash")
    told = [f"{n.replace('_', ' ')} {report[n]}" for n in names if report[n]]
    seeds = [e["seed"] for e in report["episodes"]]
    told.append(f"{len(seeds)} episodes from held-out seeds {min(seeds)} to {max(seeds)}")
    return ", ".join(told)


def _cards(report: Mapping[str, Any]) -> str:
    cards = []
    if report["verdict"]:
        level = report["verdict"]["level"]
        sure = "inconclusive" if report["verdict"]["inconclusive"] else "conclusive"
        cards.append((_LEVELS[level], sure, level))
    if report["n_success"] is not None:
        low, high = report["success_ci95"]
        cards.append((f"{report['pc_success']:.1f} %", "success", ""))
        cards.append((f"{report['n_success']} / {report['n_episodes']}", "episodes", ""))
        cards.append((f"{100 * low:.1f} to {100 * high:.1f} %", "95 % interval", ""))
    p50, p95 = report["latency_ms"]["p50"], report["latency_ms"]["p95"]
    if p50 is not None:
        cards.append((f"{p50:.3g} / {p95:.3g} ms", "latency p50 / p95", ""))
    text = "".join(
        f'<div class="card {c}"><b>{_text(b)}</b><span>{_text(s)}</span></div>' for b, s, c in cards
    )
    return f'<div class="cards">{text}</div>'


def _verdict(verdict: Mapping[str, Any] | None) -> str:
    if not verdict:
        return ""
    items = "".join(f"<li>{_text(reason)}</li>" for reason in verdict["reasons"])
    return f"<h2>Why</h2><ul>{items}</ul>"


def _image(name: str, data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{_text(name)}" src="data:image/png;base64,{encoded}">'


def _plots(pictures: Mapping[str, bytes]) -> str:
    found = "".join(_image(n, pictures[n]) for n in PLOTS if n in pictures)
    return f'<h2>Plots</h2><div class="plots">{found}</div>' if found else ""


def _sheets(pictures: Mapping[str, bytes]) -> str:
    shown = [(t, n) for n, t in SHEETS.items() if n in pictures]
    return "".join(f"<h2>{t}</h2>{_image(n, pictures[n])}" for t, n in shown)


def _film(video: bytes) -> str:
    if not video:
        return ""
    source = f"data:video/mp4;base64,{base64.b64encode(video).decode()}"
    return f'<h2>Video</h2><video controls loop muted src="{source}"></video>'


def _failures(report: Mapping[str, Any]) -> str:
    if not report["failures"]:
        return ""
    rows = [
        (name, "not counted" if v["count"] is None else v["count"], v.get("reason", ""))
        for name, v in report["failures"].items()
    ]
    table = _table("Failures", ("cause", "episodes", ""), rows)
    failed = [e for e in report["episodes"] if e["success"] is False]
    seeds = ", ".join(f"{e['seed']} ({e['failure']})" for e in failed)
    return table + (f"<p>Failed seeds: {_text(seeds)}</p>" if seeds else "<p>No failures.</p>")


def _groups(title: str, groups: Mapping[str, Any] | None) -> str:
    if not groups or len(groups) < 2:
        return ""
    rows = [
        (
            name,
            f"{g['n_success']} / {g['n_episodes']}",
            f"{g['pc_success']:.1f} %",
            "{:.1%} to {:.1%}".format(*g["success_ci95"]),
        )
        for name, g in groups.items()
    ]
    return _table(title, ("name", "successes", "rate", "95 % interval"), rows)


def _not_measured(reasons: Mapping[str, str]) -> str:
    return _table("Not measured", ("what", "why"), reasons.items()) if reasons else ""


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_text(h)}</th>" for h in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<h2>{_text(title)}</h2><table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    style = ' class="n"' if isinstance(value, int | float) else ""
    return f"<td{style}>{_text(value)}</td>"

"""report.html: one self-contained page, pictures and video inside it."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxpolicy.core.counting import counted

__all__ = ["PLOTS", "SHEETS", "document", "image", "render", "table", "text"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --paper: #fff; --mute: #667; --line: #d8dce0;
  --good: #248a3d; --fair: #a06a00; --bad: #c8342b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #16191c; --mute: #9aa3ab;
  --line: #3a4148; --good: #4cc26a; --fair: #e0a63c; --bad: #ff7a70; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem;
  padding: 0 1rem; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.sub { color: var(--mute); margin: 0 0 1.2rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .7rem 1rem; min-width: 9rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; }
.card span { color: var(--mute); }
.good b { color: var(--good); } .acceptable b { color: var(--fair); }
.needs_improvement b { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word; }
th { font-weight: 600; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
img, video { max-width: 100%; height: auto; } .plots img { background: #fff; border-radius: 4px; }
code { font-size: .9em; } .mute { color: var(--mute); }
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
        f"<h1>{text(title)}</h1>",
        f'<p class="sub">{text(_subtitle(report))}</p>',
        _cards(report),
        _verdict(report["verdict"]),
        _plots(pictures),
        _failures(report),
        _groups("By task", report["per_task"]),
        _groups("By variation", report["per_variation"]),
        _sheets(pictures),
        _film(video),
        _not_measured(report["not_measured"]),
        table("Versions", ("what", "version"), report["versions"].items()),
    ]
    return document(title, body)


def document(title: str, body: Sequence[str]) -> str:
    """A page of its own, in the style of all reports; empty parts are left out.

    It is readable from 400 px on: what is wider, a table, scrolls in itself.
    """
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{view}<title>{text(title)}</title><style>{_STYLE}</style>'
    parts = "\n".join(part for part in body if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{parts}\n</body></html>\n'


def text(value: Any) -> str:
    """A value as HTML shows it."""
    return html.escape(str(value))


def _subtitle(report: Mapping[str, Any]) -> str:
    names = ("policy", "checkpoint", "dataset_hash")
    told = [f"{n.replace('_', ' ')} {report[n]}" for n in names if report[n]]
    seeds = [e["seed"] for e in report["episodes"]]
    n = counted(len(seeds), "episode")
    told.append(f"{n} from held-out seeds {min(seeds)} to {max(seeds)}")
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
    found = "".join(
        f'<div class="card {c}"><b>{text(b)}</b><span>{text(s)}</span></div>' for b, s, c in cards
    )
    return f'<div class="cards">{found}</div>'


def _verdict(verdict: Mapping[str, Any] | None) -> str:
    if not verdict:
        return ""
    items = "".join(f"<li>{text(reason)}</li>" for reason in verdict["reasons"])
    return f"<h2>Why</h2><ul>{items}</ul>"


def image(name: str, data: bytes) -> str:
    """A PNG inside the page."""
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{text(name)}" src="data:image/png;base64,{encoded}">'


def _plots(pictures: Mapping[str, bytes]) -> str:
    found = "".join(image(n, pictures[n]) for n in PLOTS if n in pictures)
    return f'<h2>Plots</h2><div class="plots">{found}</div>' if found else ""


def _sheets(pictures: Mapping[str, bytes]) -> str:
    shown = [(t, n) for n, t in SHEETS.items() if n in pictures]
    return "".join(f"<h2>{t}</h2>{image(n, pictures[n])}" for t, n in shown)


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
    causes = table("Failures", ("cause", "episodes", ""), rows)
    failed = [e for e in report["episodes"] if e["success"] is False]
    seeds = ", ".join(f"{e['seed']} ({e['failure']})" for e in failed)
    return causes + (f"<p>Failed seeds: {text(seeds)}</p>" if seeds else "<p>No failures.</p>")


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
    return table(title, ("name", "successes", "rate", "95 % interval"), rows)


def _not_measured(reasons: Mapping[str, str]) -> str:
    return table("Not measured", ("what", "why"), reasons.items()) if reasons else ""


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A heading and a table under it, which scrolls in itself where it is too wide."""
    head = "".join(f"<th>{text(h)}</th>" for h in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    rows_told = f"<table><tr>{head}</tr>{body}</table>"
    return f'<h2>{text(title)}</h2><div class="wide">{rows_told}</div>'


def _cell(value: Any) -> str:
    style = ' class="n"' if isinstance(value, int | float) else ""
    return f"<td{style}>{text(value)}</td>"

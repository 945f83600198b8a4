"""The runs page: how a build is doing, while it does it."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request, Response
from nicegui import ui

from dokja.ledger.progress import clock
from dokja.proof.strings import stage_name
from dokja.serve.pages.frame import Frame, Pages, Visitor, head, turned_away
from dokja.serve.pages.parts import Words, attribute, box, button, icon
from dokja.serve.pages.run_figures import RunView, StageView, drawn, find_run, list_runs
from dokja.serve.pages.strings_runs import say

EVERY = 2.0
"""Seconds between looks at the folder."""
_COLOURS = ("#3b8a8a", "#c47a43", "#7180c4", "#b0618d")
_INK, _GRID = "#8a847a", "rgba(138,132,122,0.2)"


class Runs:
    """The page as one browser tab sees it."""

    def __init__(self, pages: Pages, visitor: Visitor, name: str | None) -> None:
        self._pages, self._who = pages, visitor
        found = list_runs(pages.runs)
        folder = find_run(pages.runs, name) if name else (found[0] if found else None)
        self._run = RunView(folder) if folder else None
        self._charts: dict[tuple[str, ...], ui.echart] = {}
        frame = Frame(pages, visitor, None)
        with frame.main():
            self._top(frame, [p.name for p in found])
            with box("div", "scroll"), box("div", "runs"):
                if self._run is None:
                    with box("div", "hello"):
                        Words("p", self._say("none", folder=pages.runs))
                        Words("code", self._say("none_more"))
                    return
                self._scores, self._stages = box("section"), box("section")
                self._costs, self._samples = box("section"), box("section")
        ui.timer(EVERY, self._look)

    def _say(self, key: str, **values: object) -> str:
        return say(key, self._who.language, **values)

    def _stage(self, name: str) -> str:
        both = stage_name(name)
        return both.ko if self._who.language == "ko" else both.en

    def _top(self, frame: Frame, names: list[str]) -> None:
        with box("div", "top"):
            button("menu", frame.say("menu"), None, "ghost side-toggle")
            here = self._run.folder.name if self._run else self._say("runs")
            with attribute(box("button", "pick"), type="button", aria_label=self._say("runs")):
                Words("span", here)
                if len(names) > 1:
                    icon("fold")
                    with ui.menu().props("auto-close"):
                        for name in names:
                            line = attribute(box("button", "choice"), type="button")
                            line.on("click", lambda name=name: ui.navigate.to(f"/runs/{name}"), args=[])
                            with line:
                                Words("span", name, "grow")
                                if name == here:
                                    icon("check")
            self._state = Words("span", "", "state")

    async def _look(self) -> None:
        """Shows what is new in the folder."""
        run = self._run
        assert run is not None
        new = await asyncio.to_thread(run.read)
        building = run.building
        over = any(s.name == "release" and s.done for s in run.stages)
        self._state.set_text(self._say("building" if building else "finished" if over else "resting"))
        self._state.classes("live" if building else "", remove="" if building else "live")
        if new:
            self._show_scores(run)
            for stage in run.stages:
                self._show_stage(stage)
            self._show_costs(run)
            self._show_samples(run)

    def _show_stage(self, stage: StageView) -> None:
        for keys in stage.charts():
            name = (stage.name, *keys)
            if name not in self._charts:
                with self._stages:
                    if not any(known[0] == stage.name for known in self._charts):
                        self._heading(stage)
                    with self._grid, box("div", "chart"):
                        Words("h4", self._say("eval" if len(keys) > 1 else keys[0]))
                        chart = ui.echart(_options([self._say(k) for k in keys])).classes("plot")
                        self._charts[name] = chart
            chart = self._charts[name]
            lines = [drawn(stage.curve(key)) for key in keys]
            many = len(stage.curve(keys[0])) > 60
            for i, (raw, smoothed) in enumerate(lines):
                chart.options["series"][2 * i]["data"] = _rounded(raw) if many else []
                chart.options["series"][2 * i + 1]["data"] = _rounded(smoothed if many else raw)
            chart.update()

    def _heading(self, stage: StageView) -> None:
        Words("h2", self._stage(stage.name))
        self._grid = box("div", "charts")

    def _show_scores(self, run: RunView) -> None:
        self._scores.clear()
        if not run.scores:
            return
        with self._scores:
            Words("h2", self._say("scores"))
            Words("p", self._say("scores_more"), "more")
            with box("div", "bars"):
                for mode in dict.fromkeys(s.mode for s in run.scores):
                    Words("h4", self._say(mode))
                    for score in (s for s in run.scores if s.mode == mode):
                        with box("div", "bar"):
                            Words("span", self._stage(score.stage), "label")
                            with box("span", "track"):
                                box("i", "fill").style(f"width:{100 * score.value:.1f}%")
                                box("i", "range").style(
                                    f"left:{100 * score.low:.1f}%;width:{100 * (score.high - score.low):.1f}%"
                                )
                            Words("b", f"{100 * score.value:.1f} %")
                            Words("small", f"{100 * score.low:.1f} – {100 * score.high:.1f}")

    def _show_costs(self, run: RunView) -> None:
        self._costs.clear()
        with self._costs:
            Words("h2", self._say("costs"))
            with box("div", "table"), box("table"):
                with box("thead"), box("tr"):
                    for key in ("stage", "time", "tokens", "compute", "memory"):
                        Words("th", self._say(key))
                with box("tbody"):
                    for stage in run.stages:
                        name = self._stage(stage.name)
                        under_way = "" if stage.done else f" · {self._say('under_way')}"
                        self._cost_row(name + under_way, stage.cost)
                    total = {key: run.total(key) for key in ("seconds", "tokens", "flops")}
                    peak = max((s.cost.get("peak_memory_bytes", 0) for s in run.stages), default=0)
                    self._cost_row(self._say("total"), {**total, "peak_memory_bytes": peak}, "sum")

    def _cost_row(self, name: str, cost: dict[str, float], classes: str = "") -> None:
        flops, peak = cost.get("flops", 0), cost.get("peak_memory_bytes", 0)
        with box("tr", classes):
            Words("td", name)
            Words("td", clock(cost["seconds"]) if cost.get("seconds") else "–")
            Words("td", f"{cost['tokens']:,.0f}" if cost.get("tokens") else "–")
            Words("td", f"{flops / 1e15:.3g} PFLOP" if flops else "–")
            Words("td", f"{peak / 1e9:.2f} GB" if peak else "–")

    def _show_samples(self, run: RunView) -> None:
        self._samples.clear()
        stage = next((s for s in reversed(run.stages) if s.last_samples()), None)
        if stage is None:
            return
        with self._samples:
            Words("h2", self._say("samples"))
            for row in stage.last_samples()[:6]:
                with box("div", "sample"):
                    step = row.get("step")
                    where = self._stage(stage.name) + (f" · {self._say('step', n=step)}" if step is not None else "")
                    Words("small", where)
                    Words("div", str(row.get("prompt") or ""), "prompt")
                    Words("pre", row["text"])


def _rounded(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, float(f"{y:.5g}")) for x, y in points]


def _options(names: list[str]) -> dict[str, Any]:
    """An ECharts line chart: for each name the raw line, pale, and the one that is read."""
    axis = {"axisLabel": {"color": _INK, "fontSize": 11}, "axisLine": {"show": False}, "axisTick": {"show": False}}
    series = []
    for i, name in enumerate(names):
        line = {"type": "line", "showSymbol": False, "animation": False, "color": _COLOURS[i], "data": []}
        series.append({**line, "name": f"{name} ", "silent": True, "lineStyle": {"width": 1, "opacity": 0.25}})
        series.append({**line, "name": name, "lineStyle": {"width": 2}})
    return {
        "grid": {"left": 4, "right": 14, "top": 30 if len(names) > 1 else 12, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": "dataMin", "max": "dataMax", "splitLine": {"show": False}, **axis},
        "yAxis": {"type": "value", "scale": True, "splitNumber": 4, "splitLine": {"lineStyle": {"color": _GRID}},
                  **axis},
        "legend": {"show": len(names) > 1, "data": names, "left": 0, "top": 0, "icon": "roundRect", "itemWidth": 12,
                   "itemHeight": 3, "textStyle": {"color": _INK, "fontSize": 12}},
        "tooltip": {"trigger": "axis", "confine": True, "textStyle": {"fontSize": 12}},
        "series": series,
    }  # fmt: skip


async def runs_page(pages: Pages, request: Request, name: str | None) -> Response | None:
    """The page at /runs and /runs/NAME."""
    visitor = Visitor.of(request)
    if away := await turned_away(pages, visitor):
        return away
    head(pages, visitor, f"{say('runs', visitor.language)} · dokja")
    Runs(pages, visitor, name)
    return None

"""The report's pictures of how learning is steered: challengers, traffic, guard, updates, ageing, groups (F44)."""

from __future__ import annotations

import copy
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream import config
from stream.runtime.replay import replay
from stream.surface import ageing, arms, report, trials, trust, upkeep
from tests.steered import BATCH, CHOSEN, POISONED, TRIED, rows

Document = dict[str, Any]

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


def run(text: str, path: Path) -> Document:
    document: Document = orjson.loads(replay(config.parse(text), path).to_json())
    return document


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A challenger that is promoted, one that is retired, and copies that age."""
    return run(TRIED, rows(tmp_path_factory.mktemp("tried")))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A bandit over arms that learn in batches, some of them poisoned."""
    return run(CHOSEN, rows(tmp_path_factory.mktemp("chosen"), poisoned=True))


def cards(document: Document) -> list[str]:
    return re.findall(r"<h2>([^<]*)</h2>", report.render(document).replace(report.plotly_js(), ""))


def named(figure: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(trace for trace in figure["data"] if trace.get("name") == name)
    return found


def test_what_happened_is_drawn_and_what_did_not_is_left_out(tried: Document, chosen: Document) -> None:
    shown = set(cards(tried))
    assert shown >= {"Challengers", "Evidence of trials", "How fast it ages", "Updates", "Groups"}
    assert not shown & {"Traffic", "Guard", "Sources of labels", "Rare classes"}, "one source, no refusal, no bandit"
    shown = set(cards(chosen))
    assert shown >= {"Traffic", "Guard", "Updates", "Rare classes"}
    assert not shown & {"Challengers", "Evidence of trials", "How fast it ages", "Groups"}


def test_a_lead_is_summed_since_the_champion_is_champion(tried: Document) -> None:
    """F30: up to its promotion the winner's line ends where its accuracy says; the others begin anew after it."""
    figure = trials.lead(tried, "tried")
    winner = named(figure, "linear")
    assert winner["y"][-1] > 100 and all(value is not None for value in winner["y"])
    promoted = next(d["at"] for d in tried["learning"]["decisions"] if d["action"] == "promote")
    assert all(end < promoted for end in winner["x"]), "a window of two champions compares nothing"
    right = {"linear": 0.0, "champion": 0.0}
    for w in tried["windows"]:
        learner = w.get("learner", "champion")
        if learner in right and not w.get("slice") and w["end"] <= 1704103200.0:  # 2024-01-01T10:00Z
            right[learner] += w["metrics"]["accuracy"] * w["n_labelled"]
    assert winner["x"][-1][:16] == "2024-01-01T10:00"
    assert abs(winner["y"][-1] - (right["linear"] - right["champion"])) < 0.01
    loser = named(figure, "last")
    (gap,) = [i for i, value in enumerate(loser["y"]) if value is None]
    assert loser["x"][gap - 1] < promoted < loser["x"][gap + 1] and abs(loser["y"][gap + 1]) < 60


def test_the_ramp_of_the_traffic_is_drawn_by_who_answers(tried: Document) -> None:
    """F31: champion alone, a tenth, half, then the challenger alone, and shares are whole at every moment."""
    areas = {trace["name"]: trace for trace in trials.lead(tried, "tried")["data"] if trace.get("stackgroup")}
    assert areas.keys() == {"first champion", "linear"}
    assert areas["linear"]["y"][:4] == [0.0, 0.1, 0.5, 1.0]
    assert [sum(both) for both in zip(*(area["y"] for area in areas.values()), strict=True)] == [1.0] * 7
    assert areas["linear"]["x"] == sorted(areas["linear"]["x"])


def test_evidence_stands_at_each_step_with_an_interval_that_narrows(tried: Document) -> None:
    """F32."""
    (trace,) = trials.evidence(tried, "tried")["data"]
    own = [i for i, name in enumerate(trace["y"]) if name.startswith("linear: ")]
    assert [re.sub(", .*", "", trace["y"][i]) for i in own] == [
        "linear: canary 10%",
        "linear: canary 50%",
        "linear: promoted",
    ]
    widths = [trace["error_x"]["array"][i] + trace["error_x"]["arrayminus"][i] for i in own]
    assert widths == sorted(widths, reverse=True)
    assert all(trace["x"][i] - trace["error_x"]["arrayminus"][i] > 0 for i in own), "surely better, each time"
    table = {row[0]: row for row in trials.rows(tried, "tried")}
    assert table["champion (linear)"][1] == "confirmed" and table["last"][1] == "retired"
    assert table["last"][7].endswith(" to 1") and table["linear"][6].endswith(" to 1")


def test_a_trial_that_goes_on_shows_where_it_stands(tried: Document) -> None:
    halfway = copy.deepcopy(tried)
    evidence = {"labels": 300.0, "difference": 0.01, "low": -0.1, "high": 0.12, "better": 0.4, "worse.loss": -0.2,
                "sample_ratio": 0.0}  # fmt: skip
    halfway["learning"]["decisions"] = []
    halfway["learning"]["models"]["tried"]["trials"] = {"late": {"state": "shadow", "share": 0.0, "evidence": evidence}}
    assert trials.rows(halfway, "tried") == [
        ["late", "shadow", "0%", "300", "+0.0100", "-0.1000 to +0.1200", "1.5 to 1", "1 to 1.2"]
    ]
    assert "Evidence of trials" in cards(halfway)


@pytest.mark.parametrize(
    ("log_e", "said"), [(math.log(20), "20 to 1"), (0.0, "even"), (-math.log(3), "1 to 3.0"), (900.0, "1e391 to 1")]
)
def test_evidence_is_told_as_a_bet(log_e: float, said: str) -> None:
    assert trials.odds(log_e) == said


def test_arms_have_their_shares_and_every_estimator_its_interval(chosen: Document) -> None:
    """F33, F38."""
    (bar,) = arms.shares(chosen, "chosen")["data"]
    assert abs(sum(bar["x"]) - 1.0) < 1e-3 and set(bar["y"]) == {"champion", "last"}
    figure = arms.values(chosen, "chosen")
    assert [trace["name"][:5] for trace in figure["data"]] == ["IPS (", "SNIPS", "DR (d"], "the stable one needs more"
    widths = [sum(trace["error_x"]["array"]) + sum(trace["error_x"]["arrayminus"]) for trace in figure["data"]]
    assert widths[0] > widths[1] > widths[2]
    areas = arms.course(chosen, "chosen")["data"]
    assert {area["name"] for area in areas} == {"champion", "last"} and len(areas[0]["x"]) > 10
    assert all(abs(sum(both) - 1.0) < 1e-3 for both in zip(*(area["y"] for area in areas), strict=True))
    assert "rewards of answers" in arms.words(chosen, "chosen")


def test_the_guard_has_its_timeline_with_the_evidence(chosen: Document) -> None:
    """F34: a diamond for each poisoned batch, and a rest to the end."""
    figure = upkeep.guard(chosen, "chosen")
    refused = [trace for trace in figure["data"] if trace["y"] == ["refused before it served"]]
    assert len(refused) == len(POISONED) and all("loses +" in trace["hovertemplate"] for trace in refused)
    (rest,) = [trace for trace in figure["data"] if trace["y"] == [upkeep.PAUSED] * 2]
    assert rest["x"] == [refused[-1]["x"][0], chosen["feed"]["last"]] and "still so" in rest["hovertemplate"]
    assert "3 were refused" in upkeep.guard_words(chosen, "chosen")


def test_a_rest_that_ends_is_drawn_to_its_end(chosen: Document) -> None:
    ended = copy.deepcopy(chosen)
    (pause,) = [d for d in ended["learning"]["decisions"] if d["action"] == "pause"]
    resumed = {**pause, "action": "resume", "at": "2024-01-02T12:00:00+00:00", "why": {"why": "rested"}}
    ended["learning"]["decisions"].append(resumed)
    (rest,) = [trace for trace in upkeep.guard(ended, "chosen")["data"] if trace["y"] == [upkeep.PAUSED] * 2]
    assert rest["x"] == [pause["at"], resumed["at"]] and "over: resume: rested" in rest["hovertemplate"]


def test_what_updates_cost_is_told(tried: Document, chosen: Document) -> None:
    """F26: batches as they were learned; the stage's seconds by example where one model learns."""
    (trace,) = upkeep.updates(chosen, "chosen")["data"]
    assert trace["y"] == [BATCH] * 2
    told = dict(upkeep.update_rows(chosen, "chosen"))
    assert told["policy"] == "scheduled" and told["batches learned"].startswith("2, 0 of them from nothing")
    assert "passed by while learning rested" in told and "µs an example" in told["seconds of the learn stage"]
    assert upkeep.updates(tried, "tried")["data"] == [], "one by one: nothing to draw"
    assert dict(upkeep.update_rows(tried, "tried"))["policy"] == "online"
    assert upkeep.update_rows({**tried, "learning": {"models": {}, "decisions": []}}, "tried") == []


def test_labels_that_were_asked_for_are_counted_and_not_listed(tried: Document) -> None:
    """F39: a few hundred of them would leave no room for what was changed."""
    asked = {"decision_id": "tried-ask-1", "model": "tried", "action": "ask_label", "at": "2024-01-01T00:00:00+00:00"}
    learning = tried["learning"] | {"decisions": [asked] * 300 + tried["learning"]["decisions"]}
    document = {**tried, "learning": learning}
    assert dict(upkeep.update_rows(document, "tried"))["labels asked for"] == "300"
    shown = report.render(document).replace(report.plotly_js(), "")
    assert ">promote<" in shown and ">ask_label<" not in shown


def test_the_costs_of_updating_are_least_at_the_recommended_interval(tried: Document) -> None:
    """F37: the price that the document does not name is read off the recommendation."""
    interval = tried["learning"]["models"]["tried"]["freshness"]["interval"]
    figure = ageing.curve(tried, "tried")
    costs = named(figure, "cost of updating this often")
    cheapest = costs["x"][costs["y"].index(min(costs["y"]))]
    assert abs(math.log(cheapest / interval["best"])) < 0.1
    assert [shape["x0"] for shape in figure["layout"]["shapes"]][1] == interval["best"]
    assert "Update every 2 h 50 min" in ageing.words(tried, "tried")


def test_the_costs_of_a_straight_line_are_those_of_the_economic_order_quantity() -> None:
    """Harris 1913: a loss of c * age and a price k cost c * T / 2 + k / T, least at the root of 2 k / c."""
    interval = {"best": 20.0, "low": None, "high": None, "excess": 0.05}
    point = {"age": 100.0, "pairs": 9, "mean": 0.5, "low": None, "high": None, "fitted": 0.5}
    found = {"examples": 9, "curve": [point], "interval": interval}
    document = {"learning": {"models": {"m": {"freshness": found}}}}
    costs = named(ageing.curve(document, "m"), "cost of updating this often")
    for age, cost in zip(costs["x"], costs["y"], strict=True):
        assert abs(cost - (0.005 * age / 2 + 1.0 / age)) < 1e-5
    assert "Not enough yet" in ageing.words({"learning": {"models": {"m": {"freshness": {"interval": None}}}}}, "m")
    never = {"freshness": {"interval": {"best": None, "low": None, "high": None, "excess": None}}}
    assert "It does not age" in ageing.words({"learning": {"models": {"m": never}}}, "m")


def test_gaps_between_groups_are_drawn_with_their_intervals(tried: Document) -> None:
    """F18: differences only; the ratio is in the table."""
    (trace,) = trust.fairness(tried, "tried")["data"]
    assert len(trace["x"]) == 4 and all(x >= 0 for x in trace["x"])
    assert len(trust.fairness_rows(tried, "tried")) == 5


def test_sources_and_classes_are_drawn_where_there_are_several() -> None:
    """F35, F36."""
    two = {"a": {"share": 0.9, "learned_share": 0.5}, "b": {"share": 0.1, "learned_share": 0.5}}
    balance = {"shares": {"0": 0.9, "1": 0.1}, "ratios": {"0": 1.0, "1": 9.0}}
    document = {"learning": {"models": {"m": {"sources": {"sources": two}, "balance": balance}}}}
    came, learned = upkeep.sources(document, "m")["data"]
    assert (came["x"], learned["x"]) == ([0.9, 0.1], [0.5, 0.5])
    assert upkeep.balance(document, "m")["data"][1]["x"] == [0.5, 0.5]


def test_hostile_names_of_learners_stay_text(chosen: Document) -> None:
    evil = "</script><script>alert(1)</script><img src=x>"
    hostile = copy.deepcopy(chosen)
    hostile["learning"]["decisions"][0] |= {"learner": evil, "why": {"why": evil, "examples": 3}, "after": {evil: evil}}
    learned = hostile["learning"]["models"]["chosen"]
    learned["learners"][evil] = learned["learners"]["last"]
    learned["traffic"]["shares"][evil] = 0.1
    own = report.render(hostile).replace(report.plotly_js(), "")
    assert own.count("<script>") == 2 and "<img" not in own and "alert(1)" in own


@pytest.mark.skipif(not BROWSER, reason="no Chromium here to draw the page with")
def test_a_browser_draws_every_picture(tried: Document, chosen: Document, tmp_path: Path) -> None:
    """F44: in one page of two models, each place holds a drawing, and none of them is empty."""
    both = {
        **tried,
        **{key: {**tried[key], **chosen[key]} for key in ("models", "delays")},
        **{key: tried[key] + chosen[key] for key in ("alerts", "windows")},
        "learning": {
            "models": {**tried["learning"]["models"], **chosen["learning"]["models"]},
            "decisions": tried["learning"]["decisions"] + chosen["learning"]["decisions"],
        },
    }
    html = report.render(both)
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    places = re.findall(r'<div id="([a-z-]+)"></div>', html.replace(report.plotly_js(), ""))
    assert {"tried-lead", "tried-evidence", "tried-ageing", "chosen-shares", "chosen-guard", "chosen-updates"} <= {
        *places
    }
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path / 'report.html'}"]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    for place in places:
        begin = drawn.index(f'id="{place}"')
        assert "js-plotly-plot" in drawn[begin : begin + 100], place
        assert re.search(r'class="(trace|point|heatmaplayer)', drawn[begin : begin + 60_000]), place

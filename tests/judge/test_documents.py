"""Arithmetic of published documents, reproduced: a rule that gives their numbers is likely the rule they used."""

from fractions import Fraction
from itertools import combinations

import pytest

from dokja.judge.claims import claims
from dokja.judge.criteria import exact, round_half_up
from dokja.judge.efficiency import size_ratio, training_flops
from dokja.judge.index import score
from dokja.judge.published import entries, matching, measured_by, odd_vote, published, whole_number

TENTH = Fraction(1, 10)
VISION = "exaone-4.5-vision"
FIVE = ("MMMU", "MMMU-Pro", "MathVision", "MathVista (mini)", "WeMath")


def mean(values):
    return sum(map(exact, values), Fraction(0)) / len(values)


def test_csat_scores_are_the_means_of_the_three_electives():
    electives, overall = published().table("exaone-deep-csat"), published().table("exaone-deep")
    for model, printed in (("EXAONE Deep 32B", "94.5"), ("QwQ-32B", "94.4"), ("DeepSeek-R1 (671B)", "89.9")):
        three = [electives.value(model, row.benchmark) for row in electives.rows]
        assert len(three) == 3 and round_half_up(mean(three), TENTH) == exact(printed)
        assert exact(overall.value(model, "CSAT Math 2025")) == exact(printed)


def test_aime_votes_are_whole_numbers_of_thirty_problems_but_for_one():
    table = published().table("exaone-deep")
    votes = {
        (model.name, row.benchmark): value
        for row in table.rows
        if row.metric == "cons@64"
        for model, value in zip(table.models, row.values, strict=True)
    }
    assert len(votes) == 22
    odd = {key: value for key, value in votes.items() if whole_number(value, 30) is None}
    assert odd == {("DeepSeek-R1-Distill-Qwen-1.5B", "AIME 2024"): 52.7}
    assert whole_number(votes["EXAONE Deep 32B", "AIME 2024"], 30) == 27
    flagged = [value for row in table.rows for value in row.values if odd_vote(row, value)]
    assert flagged == [52.7]
    # shared ties give such a number: 15 problems and four fifths of one
    assert round_half_up(exact("15.8") * 100 / 30, TENTH) == exact("52.7")


def test_stage_one_adds_up_to_the_published_total():
    inputs = {
        "nia": {"points": 9.2}, "common": 72.03, "individual": [[80, 80]] * 5, "experts": {"points": 31.6},
        "users": [5, 4, 5], "original_weights": True,
    }  # fmt: skip
    total = score("korea-stage-1", {"LG": inputs, "another": {"users": [4, 4, 4]}})[0].total
    benchmarks, experts, users = total.criteria
    assert [p.points for p in benchmarks.parts] == [exact("9.2"), exact("14.4"), 10]
    assert exact("72.03") * 20 / 100 == exact("14.406")
    assert benchmarks.points == exact("33.6") and experts.points == exact("31.6") and users.points == 25
    assert total.value == exact("90.2")


def test_stage_one_averages_are_of_figures_that_were_rounded_per_team():
    averages = [exact(v) for v in ("30.4", "28.56", "20.76")]
    assert sum(averages) == exact("79.72")
    assert all((5 * average / TENTH).denominator == 1 for average in averages)


def test_an_individual_benchmark_is_ours_over_the_target():
    total = score("korea-stage-1", {"a": {"individual": [72, 80]}})[0].total
    assert total.criteria[0].parts[2].points == 9


def test_five_visual_benchmarks_give_both_means_and_no_other_five_do():
    table = published().table(VISION)
    columns = {"EXAONE 4.5 33B (Reasoning)": "77.3", "GPT-5 mini (Reasoning: high)": "73.5"}
    fits = []
    for five in combinations([row.benchmark for row in table.rows], 5):
        if all(
            round_half_up(mean([table.value(model, b) for b in five]), TENTH) == exact(printed)
            for model, printed in columns.items()
        ):
            fits.append(five)
    assert fits == [FIVE]
    assert mean([table.value("EXAONE 4.5 33B (Reasoning)", b) for b in FIVE]) == exact("77.32")
    assert mean([table.value("GPT-5 mini (Reasoning: high)", b) for b in FIVE]) == exact("73.52")


@pytest.mark.parametrize(("theirs", "percent"), [(671e9, "4.8"), (235e9, "13.6")])
def test_size_ratios_are_those_printed(theirs, percent):
    assert f"{100 * size_ratio(32e9, theirs):.1f}" == percent


def test_safety_is_the_mean_over_areas_not_over_domains():
    table = published().table("k-exaone-kgc")
    areas = [int(row.metric.split()[2]) for row in table.rows]
    rates = [exact(row.values[0]) for row in table.rows]
    overall = published().table("k-exaone").value("K-EXAONE (Reasoning)", "KGC-Safety")
    weighted = sum(n * r for n, r in zip(areas, rates, strict=True)) / sum(areas)
    assert areas == [55, 75, 60, 36] and round_half_up(weighted, TENTH) == exact(overall) == exact("96.1")
    assert round_half_up(mean(rates), TENTH) != exact(overall)


@pytest.mark.parametrize(
    ("parameters", "tokens", "printed"),
    [(32e9, 6.5e12, 1.25e24), (7.8e9, 9e12, 4.21e23), (2.4e9, 6.5e12, 9.36e22), (32e9, 14e12, 2.69e24),
     (23e9, 11e12, 1.52e24)],
)  # fmt: skip
def test_training_flops_are_six_n_d(parameters, tokens, printed):
    assert training_flops(parameters, tokens) == pytest.approx(printed, rel=0.005)


def test_every_published_number_says_who_measured_it():
    found = list(entries())
    assert len(found) == 942
    assert all(e.by and e.source and 0 <= e.value <= e.scale for e in found)
    own = {e.by for e in found if e.model.own}
    assert own == {"LG AI Research, own model"} and {e.by for e in found if not e.model.own} == {
        "printed by LG AI Research, who ran it is not said"
    }
    assert all("EXAONE" in e.model.name for e in found if e.model.own)
    assert all(f.by and f.source and f.by_ko and f.source_ko for f in published().figures)


def test_tables_hold_the_numbers_of_the_cards():
    """Spot checks against the cards' own print, typed here anew."""
    for table, model, benchmark, value in (
        ("exaone-3.5", "EXAONE 3.5 32B", "MT-Bench", 8.51), ("exaone-deep", "QwQ-32B", "Live Code Bench", 63.4),
        ("exaone-4.0-32b-reasoning", "EXAONE 4.0 32B", "HMMT Feb 2025", 72.9),
        ("exaone-4.0-1.2b", "EXAONE 4.0 1.2B", "RULER", 77.4),
        ("k-exaone", "K-EXAONE (Reasoning)", "τ2-Bench (Telecom)", 73.5),
        ("exaone-4.5-text", "EXAONE 4.5 33B (Reasoning)", "KoBALT", 52.1),
    ):  # fmt: skip
        assert published().table(table).value(model, benchmark) == value


def test_claims_are_held_against_the_tables():
    verdict = {c.id: c.verdict for c in claims()}
    assert verdict == {
        "lcb-v6-75.4": "contradicted", "mmlu-pro-81.8": "holds", "exaone-4.0-interim": "contradicted",
        "visual-stem-77.3": "holds", "visual-stem-73.5": "holds", "visual-stem-claude": "not published",
        "size-671b": "holds", "size-235b": "holds", "own-82": "misattributed", "deepseek-0.6": "contradicted",
        "training-efficiency-89.4": "no source", "csat-94.5": "holds",
    }  # fmt: skip
    swapped = next(c for c in claims() if c.id == "lcb-v6-75.4")
    assert [(f.said, f.published, f.same_as) for f in swapped.facts] == [
        (75.4, 66.7, ("GPQA-Diamond",)), (71.1, 58.9, ("GPQA-Diamond",)),
    ]  # fmt: skip


def test_searching_cuts_tables_to_what_was_asked():
    assert [t.id for t in matching("k-exaone-kgc")] == ["k-exaone-kgc"]
    found = matching("kobalt")
    assert {t.id for t in found} == {"k-exaone", "exaone-4.5-text"} and all(len(t.rows) == 1 for t in found)
    phi = matching("Phi 4 reasoning-plus")
    assert [m.name for t in phi for m in t.models] == ["Phi 4 reasoning-plus"] and len(phi[0].rows) == 17
    assert {row.metric for t in matching("cons@64") for row in t.rows} == {"cons@64"} and matching("no such") == []
    with pytest.raises(KeyError, match="no KoBALT"):
        published().table("exaone-3.5").value("EXAONE 3.5 32B", "KoBALT")


def test_own_models_and_others_are_told_apart():
    table = published().table("exaone-deep")
    said = {model.name: measured_by(table, model) for model in table.models}
    assert "own model" in said["EXAONE Deep 32B"] and "not said" in said["QwQ-32B"]

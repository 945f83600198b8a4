import tomllib
from fractions import Fraction
from itertools import pairwise

import pytest

from dokja.errors import ConfigError, DataError
from dokja.judge.criteria import Definition, exact, round_half_up
from dokja.judge.index import flips, load, names, read_inputs, same_index, score
from dokja.judge.points import evaluate

V2 = {
    "mmlu_pro": 81.8, "hle": 10.5, "gpqa_diamond": 74.0, "aime_2024": 85.0, "math_500": 97.5, "livecodebench": 70.0,
    "scicode": 35.0,
}  # fmt: skip


def definition(criteria: str, total: int = 100) -> Definition:
    head = f'id = "x"\nname = "X"\nversion = "1"\ndate = "2026"\nby = "us"\nsource = "none"\ntotal = {total}\n'
    return Definition.model_validate(tomllib.loads(head + criteria))


def one(transform: str, extra: str = "") -> Definition:
    return definition(f'[[criteria]]\nid = "a"\nen = "A"\nko = "가"\nweight = 100\ntransform = "{transform}"\n{extra}')


def value_of(found: Definition, **inputs) -> Fraction:
    return evaluate(found, {"m": inputs})[0].value


@pytest.mark.parametrize("name", names())
def test_every_shipped_definition_adds_up(name):
    found, digest = load(name)
    assert found.id == name and len(digest) == 64
    assert sum(leaf.weight for leaf in found.leaves()) * found.unit == found.total == 100
    marks = {"elo": 2500, "linear": 100, "likert": [5, 5], "trimmed_mean": [100] * 10, "scale_to_winner": 4,
             "ratio_to_target": [[80, 80]]}  # fmt: skip
    total = score(name, {"m": {leaf.id: marks[leaf.transform] for leaf in found.leaves()}})[0].total
    assert total.value == 100 and total.covered == 1 and total.missing == []


def test_index_weights_are_those_published():
    weights = {n: {leaf.id: leaf.weight * load(n)[0].unit for leaf in load(n)[0].leaves()} for n in names()}
    assert weights["aaii-2.0"]["hle"] == Fraction(100, 6) and weights["aaii-2.0"]["scicode"] == Fraction(100, 8)
    assert set(weights["aaii-2.2"].values()) == {Fraction(100, 8)} and len(weights["aaii-2.2"]) == 8
    assert set(weights["aaii-3.0"].values()) == {Fraction(10)} and len(weights["aaii-3.0"]) == 10
    groups = {n: [c.weight for c in load(n)[0].criteria] for n in ("aaii-4.1", "aaii-4.3.2", "korea-stage-1")}
    assert groups == {"aaii-4.1": [34, 24, 18, 24], "aaii-4.3.2": [30, 20, 30, 20], "korea-stage-1": [40, 35, 25]}


def test_index_v2_of_a_table_computed_by_hand():
    """(81.8 + 10.5 + 74.0) / 6 + (mean(85, 97.5) + mean(70, 35)) / 4 = 27.71667 + (91.25 + 52.5) / 4 = 63.65417"""
    total = score("aaii-2.0", {"model": V2})[0].total
    assert total.value == Fraction("166.3") / 6 + Fraction("143.75") / 4
    assert float(total.value) == pytest.approx(63.654166666667)
    math, coding = (next(c for c in total.criteria if c.id == name) for name in ("math", "coding"))
    assert math.share == Fraction("91.25") and coding.share == Fraction("52.5")


def test_repeats_count_by_their_mean():
    assert value_of(one("linear"), a=[70, 80, 90]) == 80
    total = score("aaii-2.0", {"m": {**V2, "aime_2024": [90, 80] * 5}})[0].total
    assert total.value == score("aaii-2.0", {"m": V2})[0].total.value


def test_a_missing_component_makes_the_index_partial_and_is_never_filled_in():
    lacking = {k: v for k, v in V2.items() if k != "scicode"}
    found = score("aaii-2.0", {"m": lacking})[0]
    whole = score("aaii-2.0", {"m": V2})[0]
    assert found.total.value is None and found.total.missing == ["scicode"]
    assert found.total.covered == Fraction(7, 8)
    low, high = found.total.between
    assert low == whole.total.value - Fraction("35") / 8 and high == low + Fraction(100, 8)
    said = found.to_json()
    assert said["value"] is None and said["partial"] and said["criteria"][4]["parts"][1]["points"] is None


def test_versions_and_partial_scores_never_meet():
    shared = {"mmlu_pro": 80, "hle": 10, "gpqa_diamond": 70, "livecodebench": 60, "scicode": 40}
    old = score("aaii-2.0", {"m": {**shared, "aime_2024": 80, "math_500": 90}})[0]
    new = score("aaii-2.2", {"m": {**shared, "aime_2025": 80, "ifbench": 50, "aa_lcr": 50}})[0]
    with pytest.raises(DataError, match=r"aaii-2.0 2.0 .* and aaii-2.2 2.2 .* cannot be compared"):
        same_index([old, new])
    with pytest.raises(DataError, match="lacks aime_2024, math_500"):
        same_index([score("aaii-2.0", {"m": shared})[0]])
    same_index([old, old])


def test_another_versions_component_is_refused():
    with pytest.raises(DataError, match="no criterion 'aime_2025'"):
        score("aaii-2.0", {"m": {"aime_2025": 80}})
    with pytest.raises(ConfigError, match=r"Name one of aaii-2\.0"):
        score("aaii-9", {"m": {}})


def test_who_measured_stays_with_the_score():
    said = score("aaii-2.0", {"m": {**V2, "hle": {"value": 10.5, "by": "Artificial Analysis"}}})[0].to_json()
    assert said["criteria"][1] == {"id": "hle", "points": 1.75, "out_of": 16.666667, "by": "Artificial Analysis"}
    assert said["version"] == "2.0" and said["definition_sha256"] == load("aaii-2.0")[1]


@pytest.mark.parametrize("bad", [101, -1, "many", [], True])
def test_an_input_that_cannot_be_is_refused(bad):
    with pytest.raises(DataError, match=r"a of m|a \(of m\)"):
        value_of(one("linear"), a=bad)


def test_transforms_earn_what_their_table_says():
    assert (
        value_of(one("elo"), a=1500) == 50 and value_of(one("elo"), a=400) == 0 and value_of(one("elo"), a=2600) == 100
    )
    assert value_of(one("likert", "scale = 5"), a=[5, 4, 3]) == 80
    assert value_of(one("trimmed_mean"), a=[0, 70, 80, 90, 100]) == 80
    assert value_of(one("ratio_to_target"), a=[72, 80]) == 90
    assert value_of(one("ratio_to_target"), a=[[72, 80], [90, 80]]) == 95
    found = evaluate(one("scale_to_winner"), {"x": {"a": [5, 4]}, "y": {"a": 3}, "z": {}})
    assert [t.value for t in found] == [100, Fraction(200, 3), None]


@pytest.mark.parametrize(
    ("transform", "bad", "part"),
    [
        ("trimmed_mean", [70, 80], "at least 3"), ("ratio_to_target", 80, "pairs"),
        ("ratio_to_target", [80, 0], "nothing can be compared"), ("linear", {"by": "us"}, "is no input"),
        ("linear", {"points": 120}, "not within 0 to 100"),
    ],
)  # fmt: skip
def test_inputs_of_the_wrong_shape_are_refused(transform, bad, part):
    with pytest.raises(DataError, match=part):
        value_of(one(transform), a=bad)


def test_rounding_is_half_up_in_decimals_where_floats_would_fall_short():
    assert round_half_up(exact(0.25), exact("0.1")) == exact("0.3") and round(0.25, 1) == 0.2
    assert round_half_up(exact(14.45), exact("0.1")) == exact("14.5") and round(14.45, 1) == 14.4
    assert round_half_up(exact(2.675), exact("0.01")) == exact("2.68") and round(2.675, 2) == 2.67


def test_rounding_each_component_before_adding_is_not_rounding_the_sum():
    parts = "".join(f'[[criteria]]\nid = "{n}"\nen = "A"\nko = "가"\nweight = 50\nrounding = "0.1"\n' for n in "ab")
    assert value_of(definition(parts), a="20.1", b="20.1") == exact("20.2") != exact("20.1")


def test_gates_are_said_or_unsaid_and_cost_no_points():
    inputs = {"benchmarks": {"points": 30}, "experts": {"points": 30}, "users": 4}
    open_, failed = score("korea-stage-1", {"a": inputs, "b": {**inputs, "original_weights": False}})
    assert open_.total.gates["original_weights"] is None and failed.total.gates["original_weights"] is False
    assert open_.total.value == failed.total.value == 85
    with pytest.raises(DataError, match="true or false"):
        score("korea-stage-1", {"a": {**inputs, "policy": 1}})


def test_a_definition_whose_weights_do_not_add_up_is_refused():
    with pytest.raises(ValueError, match="neither 1 nor 100"):
        definition('[[criteria]]\nid = "a"\nen = "A"\nko = "가"\nweight = 99\n')
    with pytest.raises(ValueError, match="the parts of a weigh 3 and it 100"):
        definition(
            '[[criteria]]\nid = "a"\nen = "A"\nko = "가"\nweight = 100\n'
            '[[criteria.parts]]\nid = "b"\nen = "B"\nko = "나"\nweight = 3\n'
        )


def test_the_least_move_of_weight_flips_the_ranking_and_less_does_not():
    inputs = {"a": ("30", "20", "20"), "b": ("20", "30", "25")}
    field = {
        name: {"benchmarks": {"points": x}, "experts": {"points": y}, "users": {"points": z}}
        for name, (x, y, z) in inputs.items()
    }
    a, b = (s.total for s in score("korea-stage-1", field))
    moves = flips(a, b)
    source, target, least = moves[0]
    assert (source, target) == ("experts", "benchmarks")
    weight = {"benchmarks": Fraction(40), "experts": Fraction(35), "users": Fraction(25)}

    def margin(move):
        moved = {**weight, source: weight[source] - move, target: weight[target] + move}
        share = {name: [exact(p) / w for p, w in zip(inputs[name], weight.values(), strict=True)] for name in inputs}
        total = {name: sum(s * w for s, w in zip(share[name], moved.values(), strict=True)) for name in inputs}
        return total["b"] - total["a"]

    assert margin(0) == 5 and margin(least) == 0 and margin(least - Fraction(1, 100)) > 0
    assert all(first[2] <= second[2] for first, second in pairwise(moves))


def test_inputs_are_read_exactly_and_other_files_are_refused(tmp_path):
    path = tmp_path / "values.toml"
    path.write_text('["m 1"]\nmmlu_pro = 81.8\n', encoding="utf-8")
    assert exact(read_inputs(path)["m 1"]["mmlu_pro"]) == Fraction("81.8")
    for text in ("mmlu_pro = 3", "", "[[["):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="table"):
            read_inputs(path)


def test_an_index_of_ones_own_is_read_from_a_file(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'id = "mine"\nname = "M"\nversion = "1"\ndate = "2026"\nby = "us"\nsource = "us"\n'
        '[[criteria]]\nid = "a"\nen = "A"\nko = "가"\nweight = 1\n',
        encoding="utf-8",
    )
    assert score(str(mine), {"m": {"a": 60}})[0].total.value == 60
    mine.write_text(mine.read_text(encoding="utf-8") + "spurious = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no definition of an index"):
        load(str(mine))

"""What the page says of measured rows; measuring itself takes minutes and an idle machine."""

import pytest

from benchmarks.fine_tune import head_lines, loop_lines, pooled, whole_lines


def test_the_lead_is_zoo_compare_s_over_all_seeds():
    low, difference, high = pooled(
        [{"only_ours": 8, "only_theirs": 2}, {"only_ours": 6, "only_theirs": 4}], 200
    )
    assert difference == pytest.approx(4.0)
    assert high - difference == pytest.approx(difference - low)
    assert high - difference == pytest.approx(100 * 1.96 * (20 - 64 / 200) ** 0.5 / 200)


def test_a_way_that_is_fast_but_worse_has_not_reached_its_goal():
    row = {
        "usual": {"seconds": 60.0, "accuracy": 0.9},
        "ours": {"1": {"seconds": 6.0, "accuracy": 0.85}, "2": {"seconds": 10.0, "accuracy": 0.91}},
    }
    one, two = head_lines([row])[-2:]
    assert one.endswith("| 10.0 x | no |")
    assert two.endswith("| 6.0 x | yes |")


def test_above_the_guide_and_not_below_the_regression():
    even = {"accuracy": 0.9, "only_ours": 3, "only_theirs": 3}
    row = {"seconds": 50.0, "pictures": 100, "accuracy": 0.9, "guide": even, "regression": even}
    guide, regression = whole_lines([row, row])[-2:]
    assert guide.endswith("| +0.0 (-3.4 to +3.4) | no |")
    assert regression.endswith("| yes |")
    assert "90.0 % (90.0 to 90.0)" in guide


def test_the_loop_s_overhead_is_of_medians():
    rows = [{"ours": ours, "fit": 10.0} for ours in (10.1, 10.2, 14.0)]
    assert loop_lines(rows)[-1] == "| zoo | 10.20 | +2.0 % | yes |"

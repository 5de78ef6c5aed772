"""Intervals, differences and slices."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.interaction_logs import made
from scipy import stats

from vlm4rec_search.evaluation.results import cut
from vlm4rec_search.evaluation.significance import compare, holm, interval, paired_p, resampled_means, unpaired_p


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1; the last must not fall below the second.
    assert holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).random((2000, 1))
    low, high = interval(resampled_means(values, 1))
    error = 1.96 * values.std() / np.sqrt(2000)
    assert low[0] == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high[0] == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_differences_are_paired() -> None:
    """A constant lead over a noisy system has an interval of no width."""
    noisy = np.random.default_rng(0).random(200)
    values = np.stack([noisy + 0.125, noisy, noisy[::-1]], axis=1)
    first, *_, last = compare(["a", "b", "c"], values, resampled_means(values, 1))
    assert (first.a, first.b) == ("a", "b")
    assert [first.difference, first.low, first.high] == pytest.approx([0.125] * 3)
    assert first.corrected < 1e-6
    assert last.difference == pytest.approx(0)
    assert last.low < 0 < last.high
    assert last.p > 0.5


def test_p_values_are_those_of_students_and_welchs_tests() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(0.2, 1.0, 40), draw.normal(0.0, 2.0, 60)
    assert paired_p(first) == pytest.approx(stats.ttest_1samp(first, 0.0).pvalue)
    assert paired_p(np.append(first, np.nan)) == paired_p(first)
    assert unpaired_p(first, second) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)


def test_a_handful_of_users_proves_nothing() -> None:
    assert paired_p(np.array([0.5])) == paired_p(np.array([])) == paired_p(np.zeros(9)) == 1.0
    assert paired_p(np.full(5, 0.5)) == 2 / 2**5
    assert paired_p(np.append(np.full(3, 0.5), np.zeros(500))) == 2 / 2**3, "500 equal ones say nothing either"
    assert unpaired_p(np.zeros(2), np.ones(2)) == pytest.approx(1 / 3)  # two of the six divisions of four users
    assert unpaired_p(np.zeros(1), np.ones(9)) == 1.0


@pytest.mark.filterwarnings("error")
def test_many_users_have_a_p_value() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(0.0, 1.0, 5_000), draw.normal(0.1, 1.0, 4_000)
    assert unpaired_p(first, second) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    assert paired_p(second) == pytest.approx(stats.ttest_1samp(second, 0.0).pvalue)


def test_a_clear_leader_of_many_systems_is_significantly_better_than_all() -> None:
    """All pairs of the 33 systems of a whole evaluation: by a bootstrap of 10,000 no corrected p could be below 0.1."""
    draw = np.random.default_rng(0)
    values = np.clip(draw.normal(0.02, 0.1, (1_000, 33)), 0.0, 1.0)
    values[:, 0] += 0.1
    found = compare([f"s{system}" for system in range(33)], values, resampled_means(values, 1, 100))
    assert all(each.corrected < 0.001 for each in found if each.a == "s0")


def test_missing_values_are_left_out_and_seeds_repeat() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    samples = resampled_means(values, 5, 100)
    assert set(np.unique(samples[~np.isnan(samples[:, 0]), 0])) <= {1.0, 1.5, 5 / 3, 2.0, 7 / 3, 2.5, 3.0}
    assert np.isnan(samples[:, 1]).all()
    assert np.array_equal(samples, resampled_means(values, 5, 100), equal_nan=True)
    assert not np.array_equal(samples, resampled_means(values, 6, 100), equal_nan=True)


def test_slices_hold_the_users_and_targets_they_name() -> None:
    """User 0 has two items, user 1 five; the targets are item 5, never taken, and item 0, taken 40 days before."""
    rows = [(0, 0, 0), (0, 1, 35), *((1, item, 36) for item in range(1, 6) if item != 5), (1, 6, 37), (2, 0, 1)]
    log = made([*rows, (0, 5, 50), (1, 0, 51)], np.eye(7))
    split = log.split(np.datetime64("2025-02-10"))  # day 40
    targets = log.targets(split)
    found = {(part.by, part.name): part.targets.users.tolist() for part in cut(split, targets)}
    assert found == {
        ("history", "2 to 4 items"): [0],
        ("history", "5 to 19 items"): [1],
        ("item age", "never taken before"): [0],
        ("item age", "30 to 179 days"): [1],
        ("popularity", "head: top 10%"): [1],
    }


def test_repeat_purchases_are_a_slice_where_they_count() -> None:
    """User 0 takes the known item 1 again and item 2 for the first time, user 1 only a new one."""
    log = made([(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3), (0, 1, 50), (0, 2, 51), (1, 3, 52)], np.eye(4))
    split = replace(log.split(np.datetime64("2025-02-10")), repeat=True)
    found = {part.name: part.targets for part in cut(split, log.targets(split)) if part.by == "purchase"}
    assert {name: targets.users.tolist() for name, targets in found.items()} == {"repeat": [0], "explore": [0, 1]}
    assert found["repeat"].relevant.indices.tolist() == [1]
    assert found["explore"].relevant.indices.tolist() == [2, 3]

"""tools/why.py: differences by hand, and which of them count."""

from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def why(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import why

    return why


def record_of(why, gaps):
    """Two sets whose accuracies differ by ``gaps`` points; the start of the window differs from seed to seed."""
    starts = {f"10/{seed}": {"window_start": (seed + 2) / 10} for seed in range(len(gaps))}
    sets = {f"10/mtt/{seed}": {"accuracy": 0.9, "hard": 0.5 + seed / 10} for seed in range(len(gaps) + 1)}
    sets |= {f"10/{(seed + 2) / 10}/0.8/{seed}": {"accuracy": 0.9 + gap / 100} for seed, gap in enumerate(gaps)}
    return why.Record({"sets": sets, "starts": starts, "pairs": {}})


def test_a_difference_is_paired_by_seed_and_bold_where_its_interval_leaves_0_out(why):
    """Gaps 1, 2, 3: mean 2, error 1/√3 = 0.58, and t = 4.30 with two degrees of freedom: 2.48 > 2."""
    pair = (why.SELMATCH, "mtt")
    assert why.difference(record_of(why, [1, 2, 3]), [10], pair, "accuracy") == "+2.0 ± 0.6"
    assert why.difference(record_of(why, [2, 3, 4]), [10], pair, "accuracy") == "**+3.0 ± 0.6**"
    assert why.difference(record_of(why, [-2, -3, -4]), [10], pair, "accuracy") == "**−3.0 ± 0.6**"
    assert why.difference(record_of(why, [1]), [10], pair, "accuracy") == "–"


def test_only_seeds_with_all_sets_are_compared(why):
    record = record_of(why, [1, 2])
    assert record.seeds(10, why.SELMATCH, "mtt") == [0, 1] and record.seeds(10, "mtt") == [0, 1, 2]
    assert record.values(10, "mtt", "hard", [0, 2]) == [0.5, 0.7] and record.values(10, "mtt", "hard", []) == []

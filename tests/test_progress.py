"""What is said while something takes long."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from distillkit.process.progress import counting, track


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time is the first entry."""
    now = [0.0]
    monkeypatch.setattr("distillkit.process.progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then(clock, capsys):
    """Four things of 6 s each: 12 s after two of them, 12 s more are left; the last is not said."""
    for _ in track(range(4), "things"):
        clock[0] += 6
    assert capsys.readouterr().err == "things: 2 of 4, about 12 s left\n"
    for _ in track(iter(range(4)), "things"):
        clock[0] += 6
    assert capsys.readouterr().err == "things: 2 in 12 s\nthings: 4 in 24 s\n"


def test_what_was_done_earlier_says_nothing_of_the_speed(clock, capsys):
    with counting("things", 10) as count:
        count(7, earlier=True)
        clock[0] += 20
        count()
    assert capsys.readouterr().err == "things: 8 of 10, about 40 s left\n"


def test_threads_count_together(capsys):
    with counting("things", 4000) as count, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [count() for _ in range(1000)], range(4)))
        assert count.done == 4000


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with counting("things", 10) as count:
        count(7, earlier=True)
        count(3)
    assert "things: 100%" in capsys.readouterr().err

"""What a call holds at its peak, counted by torch's own allocator: the same on every machine."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile


class Peak(NamedTuple):
    """``bytes`` of all tensors that were made, at most at once, and how many ``blocks`` of memory, at most at once."""

    bytes: int
    blocks: int


def peak_of(call: Callable[[], Any]) -> Peak:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = blocks = 0
    peak = Peak(0, 0)
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        blocks += 1 if event.nbytes() > 0 else -1
        peak = Peak(max(peak.bytes, total), max(peak.blocks, blocks))
    return peak

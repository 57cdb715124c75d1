"""Sets that other code made, as artifacts of ours. May import base, process, data, evaluation, sources and package."""

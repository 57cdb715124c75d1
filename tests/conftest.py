"""What holds for all tests. Their shared fixtures are in tests/shared.py."""

import os
import tempfile
from collections import Counter

import interpreter  # the workers of pytest-xdist share the server that this process starts
import pytest

from distillkit.base.machine import cores

# What the tests run sees no settings of whoever runs them: no shell, no configuration of Git's and DVC's but its own.
NOBODY = tempfile.TemporaryDirectory()
os.environ.pop("SHELL", None)
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
os.environ |= {"DVC_GLOBAL_CONFIG_DIR": NOBODY.name, "DVC_SYSTEM_CONFIG_DIR": NOBODY.name, "DVC_NO_ANALYTICS": "1"}

os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # the compiler need not try whether vectors work: 9 s


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in a process for each core; tests that are named run in one, which begins sooner."""
    whole = config.args_source is config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput")
    if whole and not config.option.usepdb and getattr(config.option, "numprocesses", 0) is None:
        config.option.numprocesses, config.option.dist = min(cores(), 4), "worksteal"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for the tests that were left out because there is no browser."""
    told = (report.longrepr for report in terminalreporter.stats.get("skipped", []))
    reasons = Counter(reason[2] for reason in told if isinstance(reason, tuple))
    for reason, count in reasons.items():
        if "no Chromium" in reason or "no Selenium" in reason:
            terminalreporter.write_line(f"tests of pages in a browser were left out ({count}): {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Fixtures are for those who run tests: who only hands them out need not import torch."""
    assert interpreter.BIN.is_dir()
    if not getattr(config.option, "numprocesses", None):
        config.pluginmanager.import_plugin("shared")

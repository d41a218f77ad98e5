"""What holds for every test: the hypothesis profiles, and that a framework test is never skipped unseen.

Fixtures that build data sets stand beside the tests that use them. Nothing here imports recordio, so that the tests of
`import recordio` itself, and of single modules, start from nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

FRAMEWORK_TESTS = Path(__file__).parent / "frameworks"

# No deadline: the machines are shared, and a slow example is no wrong one. CI runs the same examples on
# the same commit, so that its verdict is a fact about the commit; a developer's runs go on looking for new ones.
settings.register_profile("developer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("developer"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def _lacks_framework(path: Path, reason: object, *, marked: bool) -> bool:
    """Whether a skip means that a framework went untested: by place, by mark, or by pytest.importorskip's words."""
    return marked or path.is_relative_to(FRAMEWORK_TESTS) or "could not import" in str(reason)


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"skipped, but tools/test has every framework and skips none: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Under tools/test (RECORDIO_REQUIRE_FRAMEWORKS=1) a framework test that is skipped is a failure."""
    report = yield
    if os.environ.get("RECORDIO_REQUIRE_FRAMEWORKS") and report.skipped and not hasattr(report, "wasxfail"):
        marked = item.get_closest_marker("framework") is not None
        if _lacks_framework(item.path, report.longrepr, marked=marked):
            _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """The same for a whole module that is skipped when it is collected."""
    report = yield
    required = bool(os.environ.get("RECORDIO_REQUIRE_FRAMEWORKS"))
    if required and report.skipped and _lacks_framework(collector.path, report.longrepr, marked=False):
        _fail(report)
    return report

"""Watches which rules say something while each test runs, and compares that with rule_cases.

A run of whole files fails where a test of the table did not make its rule speak, or where one that
must be silent did. Parts of files (-k, file::test) and failed runs prove nothing either way.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Set
from typing import Any

import pytest
from rule_cases import CASES

from mlps.engine.rules import Finding

_speaking: set[str] = set()
_spoke: dict[str, set[str]] = {}


def flaws(cases: Mapping[str, tuple[str, str]], spoke: Mapping[str, Set[str]]) -> Iterator[str]:
    """What the table says otherwise than the tests that ran; `spoke` has the rules of each."""
    for rule, (fires, silent) in cases.items():
        if fires in spoke and rule not in spoke[fires]:
            yield f"{rule} never fired in {fires}"
        if silent != fires and rule in spoke.get(silent, ()):
            yield f"{rule} was not silent in {silent}"


def pytest_configure(config: pytest.Config) -> None:
    original = Finding.__init__

    def recorded(self: Finding, **values: Any) -> None:
        _speaking.add(values["rule"])
        original(self, **values)

    config.add_cleanup(lambda: setattr(Finding, "__init__", original))
    setattr(Finding, "__init__", recorded)  # noqa: B010 - the class is typed as it was


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    _speaking.clear()
    try:
        yield
    finally:
        # These go with a test's report from the process that ran it to the one that sums up.
        item.user_properties.append(("rules", sorted(_speaking)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    rules = dict(report.user_properties).get("rules")
    if report.when == "call" and isinstance(rules, list):
        path, _, name = report.nodeid.partition("::")
        test = f"{path.rpartition('/')[2]}::{name.partition('[')[0]}"
        _spoke.setdefault(test, set()).update(rules)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    in_part = config.getoption("keyword") or any("::" in word for word in config.args)
    if hasattr(config, "workerinput") or exitstatus or in_part:
        return
    found = [*flaws(CASES, _spoke)]
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        for text in found if reporter else ():
            reporter.write_line(f"tests/rule_cases.py: {text}", red=True)

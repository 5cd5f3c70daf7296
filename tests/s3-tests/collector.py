"""A pytest plugin: chooses the tests of one pass and writes down their outcomes.

Loaded with -p by run.py, in pytest and in each of its workers. The pass is one
of `alone` and `together` (selection.py), told by the environment.
"""

import json
import os
import sys

import pytest
import selection

PASS = os.environ["MUONIC_S3_TESTS_PASS"]
APART_TOO = os.environ["MUONIC_S3_TESTS_ALL"] == "1"
RESULTS = os.environ["MUONIC_S3_TESTS_RESULTS"]

outcomes: dict[str, dict] = {}


# Last: what -k and -m take away shall not be counted.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    groups: dict[str, int] = {}
    kept, dropped = [], []
    for item in items:
        group = selection.group(item)
        groups[group] = groups.get(group, 0) + 1
        item.user_properties += [("group", group), ("name", selection.name(item))]
        wanted = group == selection.COUNTED or APART_TOO
        (kept if wanted and selection.alone(item) == (PASS == "alone") else dropped).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)
    if PASS == "alone":
        with open(RESULTS + ".groups", "w") as file:
            json.dump(groups, file)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A prefix of its own for the buckets of every test: what one could not clean up fails that one alone."""
    functional = sys.modules.get("s3tests.functional")
    if functional and functional.prefix is not None:
        functional.prefix = functional.choose_bucket_prefix(template="muonic-{random}-")


def pytest_runtest_logreport(report):
    properties = dict(report.user_properties)
    if "name" not in properties:
        return
    found = outcomes.setdefault(
        properties["name"], {"group": properties["group"], "outcome": "passed", "seconds": 0.0, "message": ""}
    )
    found["seconds"] += report.duration
    # An error before or after the test's own code is a failure of the test.
    if report.failed and found["outcome"] != "failed":
        found.update(outcome="failed", message=message(report))
    elif report.skipped and found["outcome"] == "passed":
        found.update(outcome="skipped", message=message(report))


def message(report) -> str:
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return f"{'' if report.when == 'call' else report.when + ': '}{text}"[:500]


def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        with open(RESULTS, "w") as file:
            json.dump(outcomes, file)

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "workflow")]

import cluster  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With a failure, what the daemons have to say about it."""
    report = yield
    if report.failed and (folder := item.funcargs.get("slurm")):
        report.sections.append(("SLURM", cluster.logs(folder)))
    return report

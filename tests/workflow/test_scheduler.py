"""Snakemake itself keeps quiet while an experiment is timed."""

import re

METRICS = [f"results/stub/metrics/{name}.json" for name in ("plain", "gamma1", "gamma4", "lookup")]


def test_the_scheduler_wakes_for_jobs_that_end_and_for_nothing_else(tree):
    """Every second of a job, the limit of jobs a second would wake it as often as jobs have ended before."""
    tree.edit("scripts/run_experiment.py", "sys.exit()\n", "import time\ntime.sleep(2)\nsys.exit()\n")
    output = tree.snakemake("--cores", "2", "--verbose", *METRICS)
    assert len(re.findall(r"^Finished jobid", output, re.MULTILINE)) == len(METRICS)
    assert len(re.findall(r"^Ready jobs: ", output, re.MULTILINE)) <= len(METRICS)

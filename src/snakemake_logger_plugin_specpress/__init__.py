"""What is measured, k of n, and the time left: lines between Snakemake's own, on a terminal and in a log alike.

A logger plugin of Snakemake, which finds it by its name (`logger` in profiles/default). It sees every executor's jobs.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_specpress.pace import Pace

# The study that is meant where none is given, as in the Snakefile.
EMBEDDED = "config/config.yaml"

# What a method has and the baseline itself has not.
_METHOD = {"drafter", "press"}

# The rules that measure or train, and what one job of them is called.
UNITS = {"run_experiment": "experiment", "train_draft": "draft"}


@dataclass(frozen=True)
class Job:
    """A job at work: its rule, what it measures, where the result goes, and when it began (time.monotonic)."""

    rule: str
    name: str
    output: str
    number: int
    began: float


class LogHandler(LogHandlerBase):
    """Writes a line when a measuring job begins and one when it ends."""

    writes_to_stream = False  # Snakemake's own messages stay
    writes_to_file = False
    has_filter = False  # --quiet holds for these lines too
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Judge the studies: snakemake makes its loggers before it reads them. Nothing is planned yet."""
        check_caches()
        self.paths = check_studies(sys.argv[1:])
        self.pace, self.there = Pace({}), set()  # of experiments, and those whose results are there already
        self.planned: dict[str, int] = {}
        self.begun = dict.fromkeys(UNITS, 0)
        self.ended = dict.fromkeys(UNITS, 0)
        self.first: dict[str, float] = {}
        self.jobs: dict[int, Job] = {}
        self.doubts: list[str] = []

    def emit(self, record: LogRecord) -> None:
        """Follow one event of the run."""
        try:
            if self.common_settings.dryrun:
                return
            event = getattr(record, "event", None)
            if event == LogEvent.RUN_INFO:
                self.planned = {rule: count for rule, count in record.stats.items() if rule in UNITS}
                self.pace = Pace(experiments(self.paths))
            elif event == LogEvent.JOB_INFO and record.rule_name in self.planned:
                self.begin(record)
            elif event == LogEvent.JOB_FINISHED and record.job_id in self.jobs:
                self.finish(self.jobs.pop(record.job_id))
            elif event == LogEvent.PROGRESS and record.done == record.total:
                self.end()
        except Exception:  # the run goes on without its progress
            self.handleError(record)

    def begin(self, record: LogRecord) -> None:
        """Note and announce a job."""
        rule = record.rule_name
        self.begun[rule] += 1
        name = " ".join(record.wildcards.values())
        job = Job(rule, name, record.output[0], self.begun[rule], time.monotonic())
        self.jobs[record.jobid] = job
        if rule not in self.first:
            self.first[rule] = job.began
            self.there |= results_beside(job.output)
        self.pace.begin(name, job.began)
        self.say(job, f"{name} ...{self.left(rule)}")

    def finish(self, job: Job) -> None:
        """Say what a job found, how long it took and how long the others will take."""
        now = time.monotonic()
        seconds = now - job.began
        self.ended[job.rule] += 1
        self.pace.end(job.name, now)
        self.say(job, f"{job.name}: {headline(job.output)} in {duration(seconds)}{self.left(job.rule)}")

        for doubt in doubts(job.output):
            self.doubts.append(f"{job.name}: {doubt}")
            self.say(job, self.doubts[-1], mark="!!")

    def end(self) -> None:
        """Say at the end of the run again what its experiments left in doubt."""
        for doubt in self.doubts:
            write(f"!! {doubt}")

    def left(self, rule: str) -> str:
        """The time that the other jobs of a rule will take, by their kinds or at the pace of those that have ended."""
        ended, waiting = self.ended[rule], self.planned[rule] - self.ended[rule]
        if not ended or not waiting:
            return ""
        seconds = self.pace.left(waiting, self.there) if rule == "run_experiment" else None
        if seconds is None:
            seconds = waiting * (time.monotonic() - self.first[rule]) / ended
        return f", about {duration(seconds)} left"

    def say(self, job: Job, text: str, mark: str = ">>") -> None:
        """Write a line about a job."""
        write(f"{mark} {UNITS[job.rule]} {job.number} of {self.planned[job.rule]}: {text}")


def write(line: str) -> None:
    """A line on the terminal in one piece: Snakemake's own thread writes there too, between a text and its end."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def experiments(paths: list[str]) -> dict[str, dict]:
    """The experiments of the study that runs, by name; none if it cannot be said which that is."""
    if len(paths) != 1:  # of several snakemake makes one
        return {}
    from specpress.study.load import read_study

    try:
        return dict(read_study(paths[0]).experiments)
    except ValueError:  # snakemake says so itself
        return {}


def results_beside(output: str) -> set[str]:
    """The names of results in the folder of one that is about to be made."""
    folder, ending = os.path.split(output)[0] or ".", ".json"
    found = os.listdir(folder) if os.path.isdir(folder) else []
    return {name.removesuffix(ending) for name in found if name.endswith(ending)}


def check_caches() -> None:
    """Refuse a home that cannot be written to, of which snakemake says nothing but where in its code it failed."""
    from snakemake.common import get_appdirs
    from snakemake.exceptions import CliException

    folder = get_appdirs().user_cache_dir
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as problem:
        why = f"caches cannot be kept in {folder} ({problem.strerror})"
        raise CliException(f"{why}: set XDG_CACHE_HOME, or run make, which finds a place") from None


def check_studies(arguments: list[str]) -> list[str]:
    """Refuse a study that is none before snakemake reads it, which names no line, if any file, or adds its own lines.

    Returns the paths of its files.

    arguments : of snakemake's command line, which it has read already; without --configfile the embedded study is meant
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    given = parser.parse_known_args(arguments)[0].configfile
    if not (paths := given or [path for path in [EMBEDDED] if os.path.isfile(path)]):
        return []
    sys.path.insert(0, os.path.abspath("src"))  # the library of this checkout: see workflow/rules/start.smk
    from snakemake.exceptions import CliException

    from specpress.study.reading import FileProblem, read_yaml

    for path in paths:
        try:
            content = read_yaml(path)
        except FileProblem as problem:
            raise CliException(str(problem)) from None
        except OSError as problem:
            raise CliException(f"{path} cannot be read: {problem.strerror}") from None
        if not isinstance(content, dict):
            raise CliException(f"{path} is no study: it holds no keys; config/README.md explains them")
    return paths


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(s) for s in (0.4, 59, 90, 5400)]
    ['0 s', '59 s', '2 min', '1.5 h']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def headline(path: str) -> str:
    """The result of an experiment in a few words, for a first look; just done where there is nothing to say."""
    try:
        with open(path, encoding="utf-8") as file:
            metrics = json.load(file)
        return HEADLINES[metrics["kind"]](metrics)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        return "done"


def doubts(path: str) -> list[str]:
    """What the result of an experiment leaves in doubt: its machine, or its losslessness."""
    try:
        with open(path, encoding="utf-8") as file:
            metrics = json.load(file)
        ended, spec = metrics.get("ended"), metrics["spec"]
        found = [_imprecise(metrics)] if ended and (ended["half_width"] or 0) > ended["precision"] else []
        if ended and metrics["kind"] == "speed" and spec["model"] == spec["baseline"] and not _METHOD & spec.keys():
            (speedup,), width = ended["speedups"], ended["half_width"]
            if width is not None and abs(math.log(speedup)) > width:
                found.append(
                    f"the baseline timed against itself is {speedup:.3f} times as fast, {width:.1%} either way"
                )
        if unexplained := metrics.get("lossless", {}).get("unexplained"):
            found.append(
                f"{unexplained} of its greedy texts differ by more than rounding explains: see specpress explain"
            )
        return found
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        return []


def _imprecise(metrics: dict) -> str:
    """That the precision was not reached, with what was seen of the machine."""
    ended, seen = metrics["ended"], metrics.get("disturbance") or {}
    text = f"known to {ended['half_width']:.1%}, not to the {ended['precision']:.0%} asked for"
    if seen:
        text += f"; other programs used {seen['other_cores']:.2f} cores meanwhile"
    if (share := (seen.get("disturbed_steps") or {}).get("share")) is not None:
        text += f", {share:.0%} of the baseline's steps were disturbed"
    return text


def _speed(metrics: dict) -> str:
    return f"{metrics['ended']['speedups'][0]:.2f}x"


def _chain(metrics: dict) -> str:
    first, *_, last = metrics["ended"]["speedups"]
    return f"{last / first:.2f}x over all steps"


def _perplexity(metrics: dict) -> str:
    point = max(metrics["curve"], key=lambda point: point["ratio"])
    mean = sum(point["nll"]) / sum(point["n_tokens"])
    return f"perplexity {math.exp(mean):.2f} at {point['ratio']:.0%} removed"


HEADLINES = {"speed": _speed, "chain": _chain, "perplexity": _perplexity}

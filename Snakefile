# The whole study, from downloads to paper/main.pdf. `make help` lists what it offers; config/README.md explains a study.
import platform

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/start.smk"


check_study_files(*(workflow.overwrite_configfiles or ["config/config.yaml"]))


# A study given with --configfile stands alone: merged into the embedded one, it would run that one's experiments too.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# What the jobs assume is requirements.lock on this Python plus LaTeX (`make setup`). Without --software-deployment-method
# nothing is pulled and jobs run with the Python that runs snakemake.
container: "docker://python:3.11"


# On a cluster these stay where snakemake runs: they need the network, or take a second.
localrules:
    all,
    fetch_wheel,
    render_template,
    copy_paper,
    make_report_pages,
    report_pages,


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/machine.smk"
include: "workflow/rules/rounding.smk"
include: "workflow/rules/drafts.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/graph.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/report.smk"


# Not the paper alone: of what lies between, snakemake does not miss what a failed job has removed.
rule all:
    default_target: True
    input:
        "paper/main.pdf",
        rules.compile_paper.output,
        rules.compile_paper.input.figures,
        rules.compile_paper.input.fragments,
        rules.collect_results.output,
        rules.collect_results.input.metrics,
        rules.collect_results.input.manifests,
        [f"{RESULTS}/spec-bench/{name}.jsonl" for name in questioned],


# Snakemake's limit of jobs a second wakes its scheduler once a second for every job that has ended, to look through all
# that wait: an eighth of a core beside whatever is timed. Where jobs run here, one at a time, there is nothing to limit.
# A lock says nothing of the machine that holds it, where several share a file system: workflow/recover.py asks for it.
onstart:
    Path(".snakemake/runs-on").write_text(f"{platform.node()}\n", encoding="utf-8")
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


include: "workflow/rules/contents.smk"

# From metrics to one tidy table, and from that to figures and LaTeX.


# Experiments whose prompts are questions: their answers are also written as Spec-Bench's scripts read them.
questioned = [
    name
    for name, spec in study.experiments.items()
    if spec["kind"] == "speed" and study.data[spec["data"]].get("kind") == "prompts"
]


rule collect_results:
    input:
        metrics=[
            *expand(f"{RESULTS}/metrics/{{experiment}}.json", experiment=study.experiments),
            *expand(f"{RESULTS}/drafts/{{draft}}/metrics.json", draft=study.drafts),
            *sorted({record for experiment in study.experiments for record in rounding_of(experiment)}),
            # The most that a speed-up can be, and the roofline of a map over batch and context, stand on it.
            *([f"{RESULTS}/machine.json"] if study.has_speedups else []),
        ],
        manifests=manifests([*study.models, *study.drafts], study.data),
        sources=sources("scripts/collect_results.py"),
    output:
        observations=f"{RESULTS}/analysis/observations.csv",
        summary=f"{RESULTS}/analysis/summary.csv",
        environment=f"{RESULTS}/analysis/environment.json",
    log:
        f"{LOGS}/collect_results.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        models=named("--model", study.models, manifest_of),
        drafts=named("--draft", study.drafts, manifest_of),
        data=named("--data", study.data, lambda name: f"{data_dir(name)}/manifest.json"),
    shell:
        "python scripts/collect_results.py --metrics {input.metrics} {params.models} {params.drafts} {params.data} "
        "--observations {output.observations} --summary {output.summary} --environment {output.environment} "
        "> {log} 2>&1"


rule write_spec_bench:  # nothing asks for it where there are none
    input:
        metrics=[f"{RESULTS}/metrics/{name}.json" for name in questioned],
        sources=sources("scripts/write_spec_bench.py"),
    output:
        answers=[f"{RESULTS}/spec-bench/{name}{end}.jsonl" for name in questioned for end in ("", ".baseline")],
    log:
        f"{LOGS}/write_spec_bench.log",
    resources:
        mem_mb=500,
        runtime=10,
    params:
        folder=lambda w, output: output.answers[0].rpartition("/")[0],
    shell:
        "python scripts/write_spec_bench.py --metrics {input.metrics} --output {params.folder} > {log} 2>&1"


rule plot_figure:
    input:
        table=lambda w: f"{RESULTS}/analysis/{figures[w.figure]['reads']}.csv",
        style="paper/style.mplstyle",
        sources=lambda w: sources(figures[w.figure]["script"]),
        starter="scripts/run_script.py",
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        svg=report(
            f"{RESULTS}/figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda w: {"figure": title_of(f"figures/{w.figure}")},
        ),
    log:
        f"{LOGS}/plot_figure/{{figure}}.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        script=lambda w: figures[w.figure]["script"],
        reads=lambda w: figures[w.figure]["reads"],
    shell:
        "python {input.starter} {params.script:q} --{params.reads} {input.table} --style {input.style} "
        "--output-pdf {output.pdf} --output-svg {output.svg} > {log} 2>&1"


rule render_template:
    input:
        template=lambda w: fragments[w.fragment],
        summary=f"{RESULTS}/analysis/summary.csv",
        environment=f"{RESULTS}/analysis/environment.json",
        original="paper/original.yaml",
        references="paper/sources.yaml",
        captions="paper/captions.yaml",
        sources=sources("scripts/render_template.py"),
        starter="scripts/run_script.py",
    output:
        f"{RESULTS}/{{fragment}}.tex",
    log:
        f"{LOGS}/render_template/{{fragment}}.log",
    resources:
        mem_mb=500,
        runtime=10,
    params:
        table=lambda w: options(table=table_of.get(w.fragment)),
    shell:
        "python {input.starter} scripts/render_template.py --template {input.template} {params.table} --summary {input.summary} "
        "--environment {input.environment} --original {input.original} --sources {input.references} "
        "--captions {input.captions} --output {output} > {log} 2>&1"

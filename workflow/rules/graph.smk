# The rules themselves as a figure. A paper rebuilt from an archive takes it from there: it shows the whole workflow.


# --nolock: this snakemake only looks at the rules, while the one that runs it holds the lock.
rule draw_rule_graph:
    input:
        "Snakefile",
        sorted(map(str, Path("workflow/rules").glob("*.smk"))),
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        svg=report(
            f"{RESULTS}/figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda w: {"figure": title_of(f"figures/{w.figure}")},
        ),
    log:
        f"{LOGS}/draw_rule_graph/{{figure}}.log",
    wildcard_constraints:
        figure=one_of(contents["graphs"]),
    resources:
        mem_mb=500,
        runtime=10,
    params:
        study=" ".join(f"--configfile {shlex.quote(os.path.relpath(path))}" for path in workflow.overwrite_configfiles),
        # What the graph depends on beside the rules: which of them this study has jobs for.
        kinds_of_jobs=lambda w: [
            bool(part)
            for part in (
                wheels,
                study.drafts,
                study.has_speedups,
                any(rounding_of(name) for name in study.experiments),
            )
        ],
        layout="-Grankdir=LR -Nfontname=Helvetica",
    shell:
        "( graph=$(snakemake --nolock --forceall --rulegraph {params.study} -- paper/main.pdf) && "
        "dot {params.layout} -Tsvg -o {output.svg} <<< $graph && "
        "dot {params.layout} -Tpdf -o {output.pdf} <<< $graph && "
        "LC_ALL=C sed -E -i 's/(CreationDate .D:)[0-9]{{14}}/\\119700101000000/' {output.pdf} ) > {log} 2>&1"

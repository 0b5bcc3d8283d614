# The paper: its sources, and everything in it that was measured.


rule compile_paper:
    input:
        main="paper/main.tex",
        sources=[source for source in contents["sources"] if source != "paper/main.tex"],
        figures=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=[*contents["figures"], *contents["graphs"]]),
        fragments=expand(f"{RESULTS}/{{fragment}}.tex", fragment=fragments),
    output:
        report(
            f"{RESULTS}/paper/main.pdf",
            caption="../report/paper.rst",
            category="Paper",
            labels={"page": "the whole paper, as a PDF"},
        ),
    log:
        f"{LOGS}/compile_paper.log",
    resources:
        mem_mb=500,
        runtime=10,
    params:
        results=lambda w: RESULTS,
    # The same sources give the same bytes: no dates. -g, because latexmk refuses to try again after a failed run.
    shell:
        'SOURCE_DATE_EPOCH=0 FORCE_SOURCE_DATE=1 TEXINPUTS="paper:{params.results}:" BIBINPUTS="$PWD/paper:" '
        "latexmk -g -pdf -Werror -interaction=nonstopmode -halt-on-error -file-line-error "
        "-outdir={params.results}/paper {input.main} > {log} 2>&1 || "
        "{{ LC_ALL=C grep -A 2 -E '^[^ ]+:[0-9]+: ' {log} >&2 || tail {log} >&2; "
        "echo 'LaTeX stopped at the place above; its whole log is {log}' >&2; exit 1; }}"


rule copy_paper:
    input:
        f"{RESULTS}/paper/main.pdf",
    output:
        "paper/main.pdf",
    log:
        f"{LOGS}/copy_paper.log",
    resources:
        mem_mb=100,
        runtime=5,
    shell:
        "cp -v {input} {output} > {log} 2>&1"

# The pages of report.html beside the figures and the paper. `make report` makes them; the paper does not need them.

# What the report says on its first page, and under a figure (the paper's caption), once the pages are made.
front_file, captions_file = (Path(f"{RESULTS}/report/{name}") for name in ("front.html", "captions.json"))
config["front"] = front_file.read_text(encoding="utf-8") if front_file.is_file() else ""
config["captions"] = json.loads(captions_file.read_text(encoding="utf-8")) if captions_file.is_file() else {}


rule make_report_pages:
    input:
        numbers=f"{RESULTS}/numbers.tex",
        summary=f"{RESULTS}/analysis/summary.csv",
        environment=f"{RESULTS}/analysis/environment.json",
        study=os.path.relpath(workflow.configfiles[0]),
        front=contents["report"]["front"]["template"],
        figure=f"{RESULTS}/figures/{contents['report']['front']['figure']}.svg",
        layout=contents["layouts"]["report"],
        original="paper/original.yaml",
        references="paper/sources.yaml",
        captions="paper/captions.yaml",
        sources=sources("scripts/make_report_pages.py"),
    output:
        front=str(front_file),
        captions=str(captions_file),
        tables=[page_of_report(f"tables/{name}", "Tables", table=title_of(f"tables/{name}")) for name in tables],
        numbers=page_of_report("numbers", "Numbers", page="every number, by name"),
        environment=page_of_report("environment", "Set-up", page="machine, versions, models and data"),
        study=page_of_report("study", "Set-up", page="study file"),
    log:
        f"{LOGS}/make_report_pages.log",
    resources:
        mem_mb=500,
        runtime=10,
    params:
        results=lambda w: RESULTS,
        tables=" ".join(tables),
    shell:
        "python scripts/make_report_pages.py --results {params.results} --original {input.original} "
        "--sources {input.references} --captions {input.captions} --layout {input.layout} --tables {params.tables} "
        "--front {input.front} --figure {input.figure} "
        "--study {input.study:q} --output {params.results}/report > {log} 2>&1"


rule report_pages:
    input:
        "paper/main.pdf",
        expand(f"{RESULTS}/figures/{{figure}}.svg", figure=contents["report"]["figures"]),
        rules.make_report_pages.output,

# How far rounding moves the logits of a model, measured once: what may explain that a greedy text differs from the
# baseline's. It knows of no experiment.


rule calibrate_rounding:
    input:
        manifest=lambda w: manifest_of(w.model),
        sources=sources("scripts/calibrate_rounding.py"),
    output:
        f"{RESULTS}/rounding/{{model}}.json",
    log:
        f"{LOGS}/calibrate_rounding/{{model}}.log",
    wildcard_constraints:
        model=one_of([*study.models, *study.drafts]),
    threads: workflow.cores
    resources:
        mem_mb=lambda w: calibration_mb(w.model),
        runtime=lambda w: model_minutes(w.model),
    params:
        spec=lambda w: canonical({"id": f"rounding-{w.model}", "kind": "rounding", "model": w.model}),
        model=lambda w: model_dir(w.model),
        device=options(device=study.device, eager=study.eager),
    shell:
        "python scripts/calibrate_rounding.py --spec {params.spec:q} --model {params.model} --threads {threads} "
        "{params.device} --output {output} > {log} 2>&1"

# How far rounding moves the logits of a model, measured once: what may explain that a greedy text differs from the
# baseline's. It knows of no experiment.


def calibration_mb(name):
    """Megabytes of a calibration: the weights, and beside them those of a format twice as wide."""
    model = known_sizes[name]
    return 3000 + (4 * model.size["weight_bytes"] // 10**6 if model else 0)


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
        runtime=30,
    params:
        spec=lambda w: canonical({"id": f"rounding-{w.model}", "kind": "rounding", "model": w.model}),
        model=lambda w: model_dir(w.model),
        device=options(device=study.device, eager=study.eager),
    shell:
        "python scripts/calibrate_rounding.py --spec {params.spec:q} --model {params.model} --threads {threads} "
        "{params.device} --output {output} > {log} 2>&1"

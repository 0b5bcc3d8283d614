# What the machine sustains, measured once: the roofline's predictions stand on it. It knows of no experiment.


rule measure_machine:
    input:
        manifest=manifest_of(study.config["baseline"]),
        sources=sources("scripts/measure_machine.py"),
    output:
        f"{RESULTS}/machine.json",
    log:
        f"{LOGS}/measure_machine.log",
    threads: workflow.cores
    resources:
        mem_mb=machine_mb(study.config["baseline"]),
        runtime=10,
    params:
        spec=canonical({"id": "machine", "kind": "machine", "model": study.config["baseline"]}),
        model=lambda w: model_dir(study.config["baseline"]),
        device=options(device=study.device, eager=study.eager),
    # The progress bar goes to the log: the rates take seconds.
    shell:
        "python scripts/measure_machine.py --spec {params.spec:q} --model {params.model} --threads {threads} "
        "{params.device} --output {output} > {log} 2>&1"

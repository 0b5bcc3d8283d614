# One job and one metrics JSON for each experiment. One that is timed takes every core, so that nothing runs beside it; of
# the others as many run as there are cores.


rule run_experiment:
    input:
        manifests=lambda w: manifests(
            models_of(study.experiments[w.experiment]), data_of(study.experiments[w.experiment])
        ),
        sources=lambda w: sources("scripts/run_experiment.py", *modules_of(study.experiments[w.experiment])),
        rounding=lambda w: rounding_of(w.experiment),
    output:
        f"{RESULTS}/metrics/{{experiment}}.json",
    log:
        f"{LOGS}/run_experiment/{{experiment}}.log",
    threads: lambda w: workflow.cores if is_timed(study.experiments[w.experiment]) else 1
    resources:
        mem_mb=lambda w: job_mb(job_of(w.experiment)),
        runtime=lambda w: job_minutes(job_of(w.experiment)),
    params:
        spec=lambda w: canonical(study.experiments[w.experiment]),
        models=lambda w: named("--model", models_of(study.experiments[w.experiment]), model_dir),
        data=lambda w: named("--data", data_of(study.experiments[w.experiment]), data_dir),
        rounding=lambda w: " ".join(f"--rounding {record}" for record in rounding_of(w.experiment)),
        device=options(device=study.device, eager=study.eager),
    shell:
        "python scripts/run_experiment.py --spec {params.spec:q} {params.models} {params.data} {params.rounding} "
        "--threads {threads} {params.device} --output {output} > {log} 2>&1"

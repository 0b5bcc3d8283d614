# Small models trained here from a target, on the part of the data that no experiment reads.


rule train_draft:
    input:
        manifests=lambda w: manifests([study.drafts[w.draft]["target"]], study.drafts[w.draft]["data"]),
        sources=sources("scripts/train_draft.py"),
    output:
        manifest=f"{RESULTS}/drafts/{{draft}}/manifest.json",
        metrics=f"{RESULTS}/drafts/{{draft}}/metrics.json",
    log:
        f"{LOGS}/train_draft/{{draft}}.log",
    threads: workflow.cores
    resources:
        mem_mb=lambda w: job_mb(training_of(w.draft)),
        runtime=lambda w: job_minutes(training_of(w.draft)),
    params:
        spec=lambda w: canonical({"name": w.draft, **study.drafts[w.draft]}),
        target=lambda w: model_dir(study.drafts[w.draft]["target"]),
        data=lambda w: named("--data", study.drafts[w.draft]["data"], data_dir),
        device=options(device=study.device),
        folder=lambda w: model_dir(w.draft),
    # The progress bar stays visible: this is the longest job.
    shell:
        "python scripts/train_draft.py --spec {params.spec:q} --target {params.target} {params.data} "
        "--threads {threads} {params.device} --output {params.folder} 2>&1 | tee {log}"

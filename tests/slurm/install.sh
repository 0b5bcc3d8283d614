#!/usr/bin/env bash
# Install SLURM and munge where Debian has them and we are root; their services are neither started nor enabled. Where
# that cannot be, say so and succeed: the test then skips with the reason.
set -euo pipefail

programs() { command -v slurmd slurmctld munged squeue > /dev/null; }

PATH=$PATH:/usr/sbin:/sbin
if programs; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "SLURM is not installed, and only root on Debian can install it here"
    exit 0
fi

# Debian starts a service when it is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null ||
    echo "SLURM could not be installed"

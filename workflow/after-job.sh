#!/usr/bin/env bash
# What a job that was killed cannot say itself. Usage: workflow/after-job.sh STATUS, the exit status of its command.
set -euo pipefail
[ "$1" -eq 137 ] || exit 0  # 128 + SIGKILL
cat >&2 << 'END'
The job was killed from outside (signal 9). If nobody did that, the system had no memory left for it (`dmesg` says so, `make
plan` what a study takes): end other programs or take a smaller study, then run the same command, which goes on from here.
END

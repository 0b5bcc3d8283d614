#!/usr/bin/env bash
# The packages of an environment as the text of requirements.lock. Usage: workflow/write-lock.sh .venv/bin/python
set -euo pipefail
cat << 'END'
# Written by `make lock` from requirements.in. Installed by `make setup`.
# torch carries no local version (such as +cpu), so that pip may take whichever build of this version it is offered. On a
# machine without a GPU, pointing pip at PyTorch's CPU index (PIP_EXTRA_INDEX_URL) saves gigabytes of CUDA libraries.
END
"$1" -m pip freeze --all --exclude-editable --exclude pip | sed -E 's/^(torch==[^+]+)\+.*/\1/' | grep -v -E '^(#|nvidia-|triton==|cuda-)'

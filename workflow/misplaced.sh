#!/usr/bin/env bash
# Why the virtual environment $1 is of no use where it is, as the end of a sentence that begins with its name; nothing if
# it is of use, or not there. Its scripts name the folder it was made in: copied or moved they run what is in the old place.
set -euo pipefail
[ -f "$1/pyvenv.cfg" ] || exit 0
made=$(sed -nE 's/^command = .* -m venv (--?[^ ]+ )*//p' "$1/pyvenv.cfg")
if [ -n "$made" ] && [ "$(cd "$made" 2> /dev/null && pwd -P || echo "$made")" != "$(cd "$1" && pwd -P)" ]; then
    echo "was made in $made and is a copy of that, or has been moved"
elif ! "$1/bin/python" -c "" 2> /dev/null; then
    echo "has no Python that runs"
fi

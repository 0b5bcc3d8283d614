#!/usr/bin/env bash
# Install LaTeX, graphviz and Python's venv from the system's packages where they are missing. Asks nothing: without root
# and without a sudo that needs no password it prints the command and stops.
set -euo pipefail

# One file of each LaTeX package set.
latex_files=(booktabs.sty cleveref.sty ptmr7t.tfm lmodern.sty)

latex_complete() {
    command -v latexmk > /dev/null && command -v pdflatex > /dev/null && command -v bibtex > /dev/null &&
        [ "$(kpsewhich "${latex_files[@]}" | wc -l)" -eq ${#latex_files[@]} ]
}

missing() {
    latex_complete || echo texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended lmodern latexmk
    command -v dot > /dev/null || echo graphviz
    "${PYTHON:-python3}" -c "import ensurepip" 2> /dev/null || echo python3-venv
}

packages=$(missing | xargs)
[ -z "$packages" ] && exit 0

install="apt-get update && apt-get install -y --no-install-recommends $packages"
if ! command -v apt-get > /dev/null; then
    echo "specpress needs latexmk, pdflatex with booktabs, cleveref and lmodern, graphviz's dot and Python's venv. Here some" >&2
    echo "are missing, which on Debian would be the packages $packages." >&2
    echo "Install them with your system's package manager, then run make again." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    root=(env)
elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    root=(sudo -n)
else
    echo "Some programs are missing. Install them as root, then run make again:" >&2
    echo "    sudo sh -c '$install'" >&2
    exit 1
fi
echo "Installing $packages"
"${root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "$install"
packages=$(missing | xargs)
[ -z "$packages" ] || { echo "Still missing after the installation: $packages" >&2; exit 1; }

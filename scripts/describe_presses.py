"""Write docs/presses.md: every press, what it did on a small model of each family, and why some cannot run."""

import argparse
import sys
from pathlib import Path

from specpress.files.program import run_program

TEXT = """# Presses

Every press of kvpress 0.5.5 and the original study's three, as a run on a small model of each family saw them
(`python scripts/describe_presses.py docs/presses.md` writes this page; a test checks that it is current). Presses were
given a prompt of {prompt} tokens and, where they take one, a ratio of 0.5, and parameters that suit a prompt so short.
"While decoding" means under a cache budget: compression every few tokens, on committed tokens only.

A study names a press (`press: {{name: snapkv, window_size: 32}}`), the library makes it: `get_press("snapkv", ...)`.
Wrappers take the press inside them by name, or with its parameters: `get_press("key_rerotation", compression_ratio=0.5,
press="streaming_llm")`. Positions are the true ones whatever was evicted, except under `key_rerotation`: it renumbers
what is kept, as StreamingLLM's paper does. Wherever a press is taken, an object of kvpress's, or of yours, will do.

{table}"""


def main() -> None:
    """Run every press and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    print(f"writing {(output := parser.parse_args().output)}")
    output.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page; runs every press."""
    from specpress.experiments.press_survey import PROMPT, table

    return TEXT.format(prompt=PROMPT, table=table())


if __name__ == "__main__":
    sys.exit(run_program(main))

# Before anything is read: this is the project's folder, the code that runs is this checkout's, and its study file is whole.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

checkout = Path(str(workflow.current_basedir)).resolve().parents[1]

if not Path("paper/contents.yaml").is_file():
    raise WorkflowError(f"snakemake works in the folder of the project, not in {Path.cwd()}: cd {checkout}")

# A virtual environment that was copied or moved with its checkout leads to the library of the old place. Jobs get the
# same path from their shell (common.smk).
sys.path.insert(0, str(checkout / "src"))
import specpress

if Path(specpress.__file__).resolve().parent != checkout / "src" / "specpress":
    raise WorkflowError(
        f"the library that runs is that of another place, {Path(specpress.__file__).parent}: run `make setup` in {checkout}"
    )

from specpress.study.reading import FileProblem, read_yaml


def check_study_files(*paths):
    """Refuse files that are no YAML, or give a key twice, of which snakemake's own reader says less or nothing."""
    try:
        for path in paths:
            read_yaml(path)
    except (FileProblem, OSError) as error:
        raise WorkflowError(str(error)) from None

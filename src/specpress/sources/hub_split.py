"""A split of a data set on a hub, by `datasets.load_dataset`: a pinned commit, a configuration, no repository code.

`datasets` runs no script of a repository: it reads data files alone, and refuses a repository that has only a script.
What it downloads and converts stays in its own cache (HF_DATASETS_CACHE, below HF_HOME), which HF_HUB_OFFLINE=1 uses.
"""

from pathlib import Path

from specpress.sources.errors import SourceError
from specpress.sources.hub import persist


def download_split(repo: str, revision: str, config: str | None, split: str, folder: Path, **patience) -> Path:
    """A split as a parquet file in `folder`.

    Parameters
    ----------
    repo, revision : "owner/name" and a full commit
    config : configuration of the data set; None where the repository has only one
    split : such as "test"
    patience : `attempts` and `wait`, see `specpress.sources.hub.persist`

    Raises
    ------
    SourceError
        If the repository, the configuration or the split cannot be had; the message names those there are.
    """
    import datasets

    datasets.disable_progress_bars()
    missing = (
        f"HF_HUB_OFFLINE is set and the cache of datasets ({datasets.config.HF_DATASETS_CACHE}) does not hold {{}}. "
        "Fetch it once with a network and copy that cache here, or use source: {{kind: path}}"
    )

    def fetch() -> Path:
        try:
            rows = datasets.load_dataset(repo, config, split=split, revision=revision)
        except ConnectionError as error:
            if datasets.config.HF_HUB_OFFLINE:
                raise SourceError(f"{repo} at revision {revision}: {missing.format('it')}") from error
            raise
        except (ValueError, RuntimeError, FileNotFoundError) as error:
            raise SourceError(f"{repo} at revision {revision}: {' '.join(str(error).split())}") from error
        if not all(revision in Path(file["filename"]).parts for file in rows.cache_files):
            # offline, datasets takes whatever it has
            raise SourceError(f"{repo}: {missing.format(f'revision {revision}')}")
        path = folder / f"{split}.parquet"
        rows.to_parquet(path)
        return path

    return persist(fetch, repo, revision, file=f"split {split}", **patience)

"""Where the numbers come from: what the environments of all experiments share, and where they differ."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from specpress.analysis.loading import blaming_files


@blaming_files
def environment(
    metrics: Iterable[Mapping],
    *,
    models: Mapping[str, dict] | None = None,
    drafts: Mapping[str, dict] | None = None,
    data: Mapping[str, dict] | None = None,
) -> dict:
    """Where the numbers come from: what all experiments share, and where they differ.

    Returns
    -------
    dict
        `common`: the keys (packages as "packages.<name>") with one value wherever they are recorded. `different`:
        for every other key the list of its values, each with the experiments that have it. `mixed`: the keys among
        those that make absolute times incomparable (hardware and software, not the thread count, the dtype, the commit,
        or which pass computes a model: that is the model's). `models`,
        `drafts`, `data`: the manifests, as given.
    """
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    flat = {item["id"]: _flat(item["environment"]) for item in metrics}
    keys = sorted({key for described in flat.values() for key in described})
    for key in keys:
        for experiment in (name for name, described in flat.items() if key in described):
            values[key][json.dumps(flat[experiment][key], sort_keys=True)].append(experiment)
    different = {
        key: [{"value": json.loads(value), "experiments": sorted(ids)} for value, ids in sorted(found.items())]
        for key, found in values.items()
        if len(found) > 1
    }
    harmless = {"threads", "dtype", "commit", "forward"}
    return {
        "experiments": sorted(flat),
        "common": {key: json.loads(next(iter(found))) for key, found in values.items() if len(found) == 1},
        "different": different,
        "mixed": sorted(set(different) - harmless),
        "models": dict(models or {}),
        "drafts": dict(drafts or {}),
        "data": dict(data or {}),
    }


def _flat(described: Mapping) -> dict:
    packages = {f"packages.{name}": version for name, version in (described.get("packages") or {}).items()}
    return {key: value for key, value in described.items() if key != "packages"} | packages

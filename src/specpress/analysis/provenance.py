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
        `common`: the keys (packages as "packages.<name>") with one value everywhere. `different`: for every other key
        the list of its values, each with the experiments that have it. `mixed`: the keys among those that make
        absolute times incomparable (hardware and software, not the thread count, the dtype or the commit). `models`,
        `drafts`, `data`: the manifests, as given.
    """
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    flat = {item["id"]: _flat(item["environment"]) for item in metrics}
    keys = sorted({key for described in flat.values() for key in described})
    for key in keys:
        for experiment, described in flat.items():
            values[key][json.dumps(described.get(key), sort_keys=True)].append(experiment)
    different = {
        key: [{"value": json.loads(value), "experiments": sorted(ids)} for value, ids in sorted(found.items())]
        for key, found in values.items()
        if len(found) > 1
    }
    harmless = {"threads", "dtype", "commit"}
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

"""Rows of the training of a draft."""

from collections.abc import Iterable, Mapping

from specpress.analysis.rows import number, single


def observations(item: Mapping) -> Iterable[dict]:
    """One row a recorded loss, a look at the acceptance in training, and a position of a chain on held-out text."""
    for step in item["loss"]:
        yield {"metric": "loss", "unit": "nats", "value": number(step["loss"]), "tokens": step["tokens"]}
    for look in item.get("progress") or ():
        yield {
            "metric": "validation_acceptance",
            "value": number(look["validation_acceptance"]),
            "tokens": look["tokens"],
            "seconds": number(look["seconds"]),
        }
    for data, held_out in (item.get("held_out") or {}).items():
        for position, value in enumerate(held_out.get("acceptance_by_position") or (), 1):
            yield {"metric": f"{data}_acceptance_by_position", "value": number(value), "iteration": position}


def summary(item: Mapping) -> Iterable[dict]:
    """Size, training and held-out acceptance of the draft."""
    for metric, unit in (("parameters", ""), ("head_tokens", "tokens"), ("tokens", "tokens")):
        yield single(metric, unit, item.get(metric), metric, "not recorded")
    if item["spec"].get("kind") == "head":
        yield single("feature_layers", "", len(item["spec"].get("features") or ()) or 1, "spec.features", "")
    for metric in ("layers", "sequence", "batch", "learning_rate"):
        yield single(metric, "", item["spec"].get(metric), f"spec.{metric}", "not recorded")
    for part, seconds in (item.get("seconds") or {}).items():
        yield single(f"{part}_seconds", "s", seconds, f"seconds.{part}", "not recorded")
    last = item["loss"][-1]["loss"] if item.get("loss") else None
    yield single("final_loss", "nats", last, "loss[-1].loss", "no loss was recorded")
    for data, held_out in (item.get("held_out") or {}).items():
        for metric, key, unit in (
            ("held_out_acceptance", "acceptance", ""),
            ("held_out_cross_entropy", "cross_entropy", "nats"),
            ("held_out_coverage", "coverage", ""),
            ("held_out_tokens", "n_tokens", "tokens"),
        ):
            yield single(metric, unit, held_out.get(key), f"held_out.{data}.{key}", "not recorded") | {"data": data}

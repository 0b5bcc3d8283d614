"""Whether perplexity ranks presses as tasks do: rank correlations over the presses that both were measured for.

A press has the mean accuracy, and the mean logarithm of its perplexity over the full cache's, over the ratios of each
experiment; or both at one ratio that they share. Correlations are positive where the lower perplexity goes with the
higher accuracy.
"""

from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean

from scipy.stats import kendalltau, spearmanr

from specpress.analysis.metrics.perplexity import mode_of
from specpress.analysis.metrics.tasks import ALL
from specpress.analysis.rows import number, single

FEWEST = 3  # presses


def rankings(metrics: list[Mapping]) -> Iterator[tuple[Mapping, Mapping, dict]]:
    """(experiment on tasks, one on perplexity that was read, row) of every correlation."""
    for item in metrics:
        if item["kind"] != "tasks":
            continue
        curves = _curves(item, metrics)
        for mode in item["spec"]["modes"]:
            accuracies = _accuracies(item, mode)
            for ratio in [None, *_shared_ratios(accuracies, curves)]:
                pairs = [
                    (-_mean(curves[press][1], ratio), _mean(accuracies[press], ratio))
                    for press in accuracies
                    if press in curves
                ]
                where = f"{mode}, {'mean over ratios' if ratio is None else f'ratio {ratio:g}'}"
                reference = next((curve for curve, _ in curves.values()), item)
                for found in _rows(pairs, f"tasks[*].results[{where}] and curve of the perplexity of the same presses"):
                    yield item, reference, found | {"task": ALL, "mode": mode, "ratio": ratio}


def _accuracies(item: Mapping, mode: str) -> dict[tuple, dict[float, float]]:
    """By press its accuracy at each ratio, over all samples of the tasks that the full cache can do."""
    scores: dict[tuple, dict[float, list[float]]] = {}
    for task in item["tasks"]:
        for result in task["results"]:
            if result["mode"] == mode:
                scores.setdefault(_key(result["press"]), {}).setdefault(result["ratio"], []).extend(result["scores"])
    return {press: {ratio: fmean(found) for ratio, found in ratios.items()} for press, ratios in scores.items()}


def _curves(item: Mapping, metrics: Iterable[Mapping]) -> dict[tuple, tuple[Mapping, dict[float, float]]]:
    """By press the experiment on perplexity at the nearest context, on the same text, and its log ratio by ratio."""
    spec, nearest = item["spec"], {}
    for other in metrics:
        same = other["kind"] == "perplexity" and all(other["spec"].get(key) == spec[key] for key in ("model", "data"))
        found = _log_ratios(other) if same else {}
        if found:
            away = abs(other["spec"]["context"] - spec["context"])
            press = _key(other["spec"]["press"])
            if press not in nearest or away < nearest[press][0]:
                nearest[press] = (away, other, found)
    return {press: (other, found) for press, (_, other, found) in nearest.items()}


def _log_ratios(item: Mapping) -> dict[float, float]:
    """Log of the perplexity over the full cache's, by ratio above 0, compressed once; nothing where one is infinite."""
    points = {point["ratio"]: point for point in item["curve"] if mode_of(point) == "once"}
    if any(number(nll) is None for point in points.values() for nll in point["nll"]):
        return {}
    logs = {ratio: sum(point["nll"]) / sum(point["n_tokens"]) for ratio, point in points.items()}
    return {ratio: each - logs[0] for ratio, each in logs.items() if ratio and 0 in logs}


def _shared_ratios(accuracies: Mapping, curves: Mapping) -> list[float]:
    """Ratios at which every press of both has a value."""
    both = [set(accuracies[press]) & set(curves[press][1]) for press in accuracies if press in curves]
    return sorted(set.intersection(*both)) if both else []


def _mean(values: Mapping[float, float], ratio: float | None) -> float:
    return fmean(values.values()) if ratio is None else values[ratio]


def _rows(pairs: list[tuple[float, float]], field: str) -> Iterator[dict]:
    values, why = dict.fromkeys(("kendall", "kendall_p", "spearman")), f"fewer than {FEWEST} presses with both"
    if len(pairs) >= FEWEST:
        perplexities, accuracies = zip(*pairs, strict=True)
        if len(set(perplexities)) > 1 < len(set(accuracies)):
            kendall = kendalltau(perplexities, accuracies)
            spearman = spearmanr(perplexities, accuracies).statistic
            values = {"kendall": kendall.statistic, "kendall_p": kendall.pvalue, "spearman": spearman}
        else:
            why = "presses that all tie leave no ranking"
    for metric, value in values.items():
        yield single(metric, "", value, f"{field}: {metric}", why) | {"n": len(pairs)}


def _key(press: Mapping) -> tuple:
    return tuple(sorted((key, str(value)) for key, value in press.items()))

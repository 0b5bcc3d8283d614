"""Whether perplexity ranks presses as tasks do: rank correlations over the presses that both were measured for.

A press has the mean accuracy, and the mean logarithm of its perplexity over the full cache's, each over the ratios at
which it is known of all presses; or both at one ratio. Correlations are positive where the lower perplexity goes with
the higher accuracy.
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
            accuracies = {press: found for press, found in _accuracies(item, mode).items() if press in curves}
            logs = {press: curves[press][1] for press in accuracies}
            both = _common(logs), _common(accuracies)
            for ratio in [None, *sorted(set.intersection(*both))]:
                at, of = both if ratio is None else ({ratio}, {ratio})
                pairs = [(-_mean(logs[press], at), _mean(accuracies[press], of)) for press in logs if at and of]
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


def _common(values: Mapping[tuple, Mapping[float, float]]) -> set[float]:
    """The ratios at which every press has a value."""
    return set.intersection(*map(set, values.values())) if values else set()


def _mean(values: Mapping[float, float], ratios: Iterable[float]) -> float:
    return fmean(values[ratio] for ratio in ratios)


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

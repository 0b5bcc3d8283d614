"""What is wrong with an experiment of the kind tasks, beyond what the schema and the checks of names find."""

from collections.abc import Iterator

from specpress.theory.calibration import fewest_samples


def task_problems(body: dict, path: str) -> Iterator[str]:
    """Ratios without the full cache, a press given twice, and samples so few that no task can pass the calibration."""
    ratios, presses, samples, bar = (body.get(key) for key in ("ratios", "presses", "samples", "bar"))
    if isinstance(ratios, list) and ratios and 0 not in ratios:
        yield f"{path}.ratios: must contain 0, the full cache, which is calibrated first"
    names: list = []
    for index, press in enumerate(presses if isinstance(presses, list) else []):
        press = press if isinstance(press, dict) else {}
        where, name = f"{path}.presses[{index}]", press.get("name")
        if "compression_ratio" in press:
            yield f"{where}.compression_ratio: `ratios` gives it to all presses; remove it here"
        if name is not None and name in names:
            first = f"{path}.presses[{names.index(name)}]"
            yield f"{where}.name: {first} is {name!r} already; give it with other options in an experiment of its own"
        names.append(name)
    if isinstance(samples, int) and isinstance(bar, (int, float)) and 0 < bar < 1:  # at a bar of 0 all pass
        needed = fewest_samples(bar)
        if samples < needed:
            yield (
                f"{path}.samples: must be at least {needed}, found {samples}: with fewer, not even a task that is "
                f"always solved has an interval of its accuracy above the bar of {bar:g}; ask for more, or lower `bar`"
            )

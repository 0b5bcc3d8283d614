"""How much time is left: experiments of one kind are as long as each other, or as their budgets; others are not."""

from collections.abc import Collection, Mapping


class Pace:
    """What experiments take of a run's time, by their kind; those at work side by side share the time that passes.

    Parameters
    ----------
    specs : by name, with "kind", and "budget_seconds" of those that measure so long
    """

    def __init__(self, specs: Mapping[str, Mapping]):
        self._specs = specs
        self._spent: dict[str, float] = {}  # by name, of those that have begun
        self._ended: list[str] = []
        self._now = 0.0

    def begin(self, name: str, now: float) -> None:
        """A job begins, at a time in seconds; one that is no experiment changes nothing."""
        self._pass(now)
        if name in self._specs:
            self._spent[name] = 0.0

    def end(self, name: str, now: float) -> None:
        """It has ended."""
        self._pass(now)
        if name in self._spent:
            self._ended.append(name)

    def left(self, count: int, done: Collection[str]) -> float | None:
        """Seconds until `count` more have ended; None if nothing is known of some of them.

        done : names of those that need not run; where more or fewer others are left than `count`, they count in
            proportion
        """
        waiting = [name for name in self._specs if name not in done and name not in self._ended]
        expected = [self._expected(name) for name in waiting]
        if not waiting or None in expected:
            return None
        left = (max(0.0, of - self._spent.get(name, 0.0)) for name, of in zip(waiting, expected, strict=True))
        return sum(left) * count / len(waiting)

    def _pass(self, now: float) -> None:
        at_work = [name for name in self._spent if name not in self._ended]
        for name in at_work:
            self._spent[name] += (now - self._now) / len(at_work)
        self._now = now

    def _expected(self, name: str) -> float | None:
        spec = self._specs[name]
        alike = [other for other in self._ended if self._specs[other]["kind"] == spec["kind"]]
        if alike:
            return self._weight(name) * sum(map(self._spent.get, alike)) / sum(map(self._weight, alike))
        if "budget_seconds" in spec:
            return float(spec["budget_seconds"])
        return sum(map(self._spent.get, self._ended)) / len(self._ended) if self._ended else None

    def _weight(self, name: str) -> float:
        return self._specs[name].get("budget_seconds", 1.0)

"""Write logbook.txt, the text of the tiny study: the log of an imaginary lighthouse, the same at every run."""

import random
from pathlib import Path

WEATHER = ["fog", "rain", "sleet", "a clear sky", "low cloud", "thin haze", "snow", "bright sun"]
WIND = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"]
SHIPS = ["a collier", "two herring boats", "the mail steamer", "a schooner", "a barque under tow", "no ship at all"]
WORK = ["trimmed the wicks", "polished the lens", "painted the gallery rail", "mended the stove", "carried up oil"]
BIRDS = ["terns", "gannets", "a tired owl", "wild geese", "one heron", "gulls beyond counting"]
TIMES = ["At dawn", "Before noon", "In the afternoon", "At dusk", "Towards midnight"]


def entry(day: int, draw: random.Random) -> str:
    """The paragraph of one day."""
    start = f"Day {day}. {draw.choice(TIMES)} there was {draw.choice(WEATHER)}, the wind {draw.choice(WIND)}."
    more = [
        f"We saw {draw.choice(SHIPS)} pass to the {draw.choice(WIND)}.",
        f"The keeper {draw.choice(WORK)} and then {draw.choice(WORK)}.",
        f"{draw.choice(TIMES)} {draw.choice(BIRDS)} came from the {draw.choice(WIND)}.",
        f"The lamp burned {draw.randint(6, 14)} hours and used {draw.randint(2, 9)} measures of oil.",
    ]
    return " ".join([start, *draw.sample(more, draw.randint(2, 4))])


def main() -> None:
    """Write a year of the log beside this file."""
    draw = random.Random(0)
    text = "\n\n".join(entry(day, draw) for day in range(1, 366))
    Path(__file__).with_name("logbook.txt").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

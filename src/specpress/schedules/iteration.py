"""What a schedule learns from: one finished round."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Iteration:
    """One round of the loop: draft, verify, commit.

    `gamma` is what the schedule asked for, `proposed` what the drafter gave, `accepted` what the target kept,
    `committed` the tokens that reached the output (at most accepted + 1), `slots` the slots of the target's cache
    afterwards (of its fullest row). `rejections` counts the sequences in which a drafted token was refused after the
    last that was kept; of a path that is one with fewer accepted than proposed, of a tree one that stops before a leaf.

    `seconds` are those of the whole round, `draft_seconds` and `compress_seconds` of them those of drafting and of
    compressing the target's cache.

    For a batch with a drafter, proposed, accepted, committed and rejections are sums over the rows, and gamma is what
    was asked for in each row.
    """

    gamma: int
    proposed: int
    accepted: int
    committed: int
    seconds: float
    draft_seconds: float
    slots: int
    rejections: int | None = None
    compress_seconds: float = 0.0

    def __post_init__(self):
        if self.rejections is None:  # one sequence
            object.__setattr__(self, "rejections", int(self.accepted < self.proposed))

    @property
    def verify_seconds(self) -> float:
        """Seconds of the round beside drafting and compressing: the target's forward, verification and bookkeeping."""
        return self.seconds - self.draft_seconds - self.compress_seconds

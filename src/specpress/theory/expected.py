"""What speculative decoding should gain, from acceptance and costs (Leviathan et al., 2023, section 3)."""


def expected_tokens(acceptance: float, gamma: int) -> float:
    """Tokens an iteration yields on average: (1 - a^(gamma + 1)) / (1 - a).

    Parameters
    ----------
    acceptance : float in [0, 1], the chance a that a tested draft token is kept, taken as independent of the others
    gamma : int, tokens drafted an iteration
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance must lie in [0, 1], got {acceptance}")
    return float(sum(acceptance**i for i in range(gamma + 1)))


def expected_speedup(acceptance: float, gamma: int, draft_cost: float, verification_cost: float = 1.0) -> float:
    """Expected tokens an iteration over its cost, c gamma + v, in steps of the target.

    Parameters
    ----------
    draft_cost : float, c, time of a draft token over time of a target step
    verification_cost : float, v, time of verifying gamma + 1 tokens over time of a target step
    """
    return expected_tokens(acceptance, gamma) / (draft_cost * gamma + verification_cost)

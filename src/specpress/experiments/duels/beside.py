"""A method duelled with the plain baseline on prompts at hand: what `specpress generate --compare` prints."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from specpress.decoding.generate import prepare
from specpress.engine.attention import decode_attention
from specpress.engine.graphs import has_graphs
from specpress.experiments.duels.arms import Arm
from specpress.experiments.duels.duel import FIRST_ROUNDS, NO_END, Baseline, Record, duel
from specpress.hardware.clock import no_garbage_collection
from specpress.theory.costs import Brackets
from specpress.theory.duels import LEAST_UNITS, Text, speedup, together
from specpress.theory.intervals import Estimate

_WARM_UP = 8  # tokens


def beside_baseline(arm: Arm, model, prompts: Sequence[list[int]], *, repeats: int = 3, **options) -> Estimate | None:
    """The speed-up of a method over autoregressive decoding on a full cache, with its 95% interval.

    On three prompts or more the interval says what to expect on others like them. On fewer it is about these very
    prompts: each is duelled `repeats` times, and what is uncertain is the machine alone.

    Parameters
    ----------
    arm : the method: tokens and options of `generate` to a decoding
    model : of the baseline
    prompts : tokens of each
    options : sampling, max_new_tokens, eos_token_id, as for `generate`

    Returns
    -------
    Estimate, or None if no prompt gave two tokens.
    """
    if options["max_new_tokens"] < 2:
        return None
    alone = options | {"eos_token_id": options.get("eos_token_id") and NO_END}
    batches = [torch.tensor([prompt], device=model.device) for prompt in prompts]
    _warm_up(arm, model, batches, alone, options)
    record, texts, turn = Record(), [], 0
    given = len(prompts) < LEAST_UNITS  # the texts, and only the costs are uncertain
    for _ in range(repeats if given else 1):
        for tokens in batches:
            method, baseline = arm(tokens, **options), Baseline(prepare(model, tokens, **alone))
            with no_garbage_collection(), decode_attention(*method.models, *baseline.loop.models):
                _, rounds = duel(baseline, method, record, turn, turn, math.inf if given else FIRST_ROUNDS)
            texts.append(Text(method.new - 1, rounds))
            turn += 1
    texts = [text for text in texts if text.tokens > 0]
    if not texts:
        return None
    if given:
        texts = list(together(("these", text) for text in texts).values()) * LEAST_UNITS
    return speedup(texts, Brackets.from_columns(record.brackets)).estimate()


def _warm_up(arm: Arm, model, batches: Sequence[Tensor], alone: dict, options: dict) -> None:
    """Decode a few tokens; with CUDA graphs all of the prompts, so that no step that comes is captured in the duel.

    Captures belong to a length and to the caches in use at once: as in a duel, the baseline's is kept meanwhile.
    """
    if not has_graphs(model):
        prepare(model, batches[0], **alone | {"max_new_tokens": min(_WARM_UP, options["max_new_tokens"])}).run()
        return
    for tokens in batches:
        baseline = prepare(model, tokens, **alone)
        baseline.run()
        arm(tokens, **options).run()
        del baseline

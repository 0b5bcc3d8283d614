"""Methods against the cached autoregressive baseline, prompt by prompt, until what they gain is known well enough.

The first prompts are duelled (see `specpress.experiments.duels.duel`). Of later ones those are, that the costs still
need; on the others a method only decodes, and its rounds are counted: that needs no baseline and tells as much about
the text. It needs no clock either, so that several prompts are decoded in one batch where the method can.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence

from torch import nn
from tqdm import tqdm

from specpress.data.documents import Passage
from specpress.decoding.generation import Decoding, Generation
from specpress.engine.attention import decode_attention
from specpress.engine.graphs import captures, has_graphs
from specpress.experiments.assets import Assets, as_batch, as_padded
from specpress.experiments.duels.arms import Arm
from specpress.experiments.duels.contender import Contender, Run
from specpress.experiments.duels.duel import NO_END, Baseline, Read, Record, count, count_traced, duel
from specpress.experiments.duels.prompts import Prompt, Turns
from specpress.hardware.clock import no_garbage_collection
from specpress.hardware.disturbance import disturbed_steps
from specpress.hardware.recording import recording
from specpress.laws.sampling import SamplingParams
from specpress.models.tokenizers import ends_of_text
from specpress.theory.duels import FIRST_LOOK, Stretches, forgotten, is_precise, looks

_WARM_UP_PROMPT, _WARM_UP_TOKENS = 512, 8  # enough for a first forward of each kind; a long prompt takes seconds
_LEAST_DUELLED = 3  # prompts of which the costs are measured before it is asked what the next are better used for
_TOGETHER = 8  # prompts counted in one batch at most
_TOKENS_TOGETHER = 8192  # of all of them, so that their caches stay small
_LOGITS_TOGETHER = 2**28  # of the prompts that a drafter learns from: half a gigabyte in 16 bits
_NO_MATTER = 0.05  # log ratio of whole rounds to their parts that is none, however sharply it is seen
_ONCE_IN = 1000  # checks of parts against the whole, one that fails by chance


class Contest:
    """All methods of an experiment on the same prompts.

    Parameters
    ----------
    spec : baseline (or model), data, prompt_tokens, max_new_tokens, sampling, seed, precision, budget_seconds,
        least_prompts, most_prompts, and batch
    baseline, arms : the baseline and the methods, as `specpress.experiments.duels.arms.build` makes them
    texts : whether the baseline's own text is wanted of every prompt that is duelled
    """

    def __init__(self, spec: dict, baseline: Arm, arms: Sequence[Arm], assets: Assets, *, texts: bool = False):
        self.spec, self.baseline, self.texts = spec, baseline, texts
        self.contenders = [Contender(arm) for arm in arms]
        name = spec.get("baseline", spec["model"])
        self.model, self.tokenizer = assets.model(name), assets.tokenizer(name)
        rows = spec.get("batch", 1)
        # the rows of a batch keep their number
        self.eos = ends_of_text(self.model, self.tokenizer) if rows == 1 else None
        self.prompts = self._prompts(assets, rows)

    def _prompts(self, assets: Assets, rows: int) -> Sequence[Prompt]:
        """Passages of texts, `rows` a prompt, or the turns of questions."""
        spec = self.spec
        questions = assets.questions(spec)
        if questions is not None:
            return Turns(spec, questions, self.tokenizer, self._answer)
        passages = assets.passages(
            spec,
            count=spec["most_prompts"] * rows,
            least=spec["least_prompts"] * rows,
            length=spec["prompt_tokens"],
            tokenizer=self.tokenizer,
        )
        batches = [passages[i : i + rows] for i in range(0, len(passages) - rows + 1, rows)]
        return [Prompt(i, spec["seed"] + i, batch) for i, batch in enumerate(batches)]

    def _answer(self, tokens: list[int]) -> str:
        """The baseline's greedy answer to a prompt."""
        decoding = self.baseline(
            as_batch([Passage("", 0, tokens)], self.model),
            sampling=SamplingParams(temperature=0.0),
            max_new_tokens=self.spec["max_new_tokens"],
            eos_token_id=self.eos,
        )
        return self.tokenizer.decode(decoding.run().tokens[0], skip_special_tokens=True)

    def run(self) -> dict:
        """Measure until the precision is reached, the budget is spent or the prompts run out; says which it was.

        Raises
        ------
        ValueError
            If twice what was measured part by part is not what whole rounds take.
        """
        models = self._warm_up()
        started, captured = time.perf_counter(), _captured(models)
        ended = self._measure(started)
        checks = [self._check(contender) for contender in self.contenders]
        taken = {"seconds": time.perf_counter() - started, "captures": _captured(models) - captured}
        joints = [contender.speedup() for contender in self.contenders]
        speedups = [math.exp(joint.value) if joint else None for joint in joints]
        return {**ended, **taken, "speedups": speedups, "checks": checks}

    def _measure(self, started: float) -> dict:
        spec, by, done = self.spec, "prompts", 0
        sizes = looks(spec["least_prompts"], spec["most_prompts"])
        progress = tqdm(total=len(self.prompts), desc=spec["id"], unit="prompt", mininterval=5, leave=False)
        for group in self._groups(sizes):
            self._decode(group)
            done += len(group)
            progress.update(len(group))
            precise = done >= _LEAST_DUELLED and self._look()
            if done in sizes and precise:
                by = "precision"
                break
            if done >= spec["least_prompts"] and time.perf_counter() - started >= spec["budget_seconds"]:
                by = "budget"
                break
        progress.close()
        return {"by": by, "precision": spec["precision"], "half_width": self.half_width(), "prompts": done}

    def _groups(self, sizes: Sequence[int]) -> Iterator[list[Prompt]]:
        """The prompts, in order: one at a time while costs are needed, then as many as fit into a batch.

        sizes : numbers of prompts at which the precision is looked at: no group goes past one at which it may suffice
        """
        done = 0
        while done < len(self.prompts):
            most = min(1 if contender.needs_costs else contender.together for contender in self.contenders)
            until_look = min((size - done for size in sizes if size > done and size >= FIRST_LOOK), default=most)
            group = self.prompts[done : done + min(most, until_look)]
            yield group
            done += len(group)

    def _look(self) -> bool:
        """Whether every method is known well enough; says of each what the next prompts are better used for."""
        joints = [contender.speedup() for contender in self.contenders]
        for contender, joint in zip(self.contenders, joints, strict=True):
            contender.machine_share = joint and joint.machine_share
        return all(joint is not None and is_precise(joint, self.spec["precision"]) for joint in joints)

    def sample(self, names: Sequence[str]) -> dict:
        """The text of the first prompt, and what each method, by its name, made of it."""
        first = [contender.runs[0] for contender in self.contenders]
        texts = [self.tokenizer.decode(run.generation.tokens[0]) for run in first]
        prompt = self.tokenizer.decode(self.prompts[0].passages[0].tokens)
        return {"prompt": prompt, **dict(zip(names, texts, strict=True))}

    def again(self, contender: Contender) -> Decoding:
        """A fresh generation of the first prompt, before its first part."""
        return self._make(contender.arm, self.prompts[:1], self.eos)

    def disturbed_steps(self) -> dict:
        """The share of the baseline's steps that something slowed."""
        return disturbed_steps([contender.record.brackets["before"] for contender in self.contenders])

    def half_width(self) -> float | None:
        """The widest of the methods' intervals: half its width, of the log speed-up; None where one has none."""
        widths = [joint.half_width() if joint else None for joint in (c.speedup() for c in self.contenders)]
        return None if None in widths else max(widths)

    def _decode(self, group: list[Prompt]) -> None:
        """Every method on a group of prompts; which goes first moves on with every group."""
        for turn in range(len(self.contenders)):
            contender = self.contenders[(group[0].number + turn) % len(self.contenders)]
            if contender.needs_costs:
                contender.runs += [self._duel(contender, prompt) for prompt in group]
            else:
                contender.runs += self._count(contender, group)

    def _make(self, arm: Arm, group: Sequence[Prompt], eos: int | None, new: int | None = None) -> Decoding:
        """A generation of a group of prompts, drawn with the seed of the first."""
        settings = {key: value for key, value in self.spec["sampling"].items() if key != "name"}
        batch = as_padded([passage for prompt in group for passage in prompt.passages], self.model)
        return arm(
            batch.pop("input_ids"),
            **batch,
            sampling=SamplingParams(**settings, seed=group[0].seed),
            max_new_tokens=new or self.spec["max_new_tokens"],
            eos_token_id=eos,
        )

    def _duel(self, contender: Contender, prompt: Prompt) -> Run:
        method = self._make(contender.arm, [prompt], self.eos)
        baseline = Baseline(self._make(self.baseline, [prompt], self.eos and NO_END))
        with no_garbage_collection(), decode_attention(*method.models, *baseline.loop.models):
            read, rounds = duel(baseline, method, contender.record, prompt.number, prompt.number, contender.most_rounds)
            seen = _baseline_figures(baseline, read, method.new)
            text = baseline.text(method.new) if self.texts else None
        made = method.generation()
        return Run(prompt, made, rounds, seen, baseline_tokens=text, text=self._text_of(prompt, made))

    def _count(self, contender: Contender, group: list[Prompt]) -> list[Run]:
        method = self._make(contender.arm, group, self.eos)
        with no_garbage_collection(), decode_attention(*method.models):
            if len(group) == 1:
                rounds, made = count(method), method.generation()
                return [Run(group[0], made, rounds, text=self._text_of(group[0], made))]
            deque(method.parts(), maxlen=0)  # to the end; each row keeps its own record
        return [
            Run(prompt, each, count_traced(each.trace), together=len(group), text=self._text_of(prompt, each))
            for prompt, each in zip(group, method.generations(), strict=True)
        ]

    def _text_of(self, prompt: Prompt, made: Generation) -> str | None:
        """What a question was answered; None for other prompts, whose texts no one reads."""
        return self.tokenizer.decode(made.tokens[0], skip_special_tokens=True) if prompt.question else None

    def _together(self, arm: Arm) -> int:
        """How many prompts a method takes at once, and keeps a record of each; 1 where there are no batches of it."""
        prompt, new = self.spec["prompt_tokens"], self.spec["max_new_tokens"]
        if self.spec.get("batch", 1) > 1:
            return 1
        try:
            method = self._make(arm, [self.prompts[0]] * 2, self.eos)
        except ValueError:
            return 1
        if method.generations() is None:
            return 1
        logits = max(1, min(method.drafter.learns, prompt)) * self.model.config.vocab_size
        return max(1, min(_TOGETHER, _TOKENS_TOGETHER // (prompt + new), _LOGITS_TOGETHER // logits))

    def _warm_up(self) -> list[nn.Module]:
        """Decode a few tokens with all; with CUDA graphs a whole prompt, so that the steps that come are captured.

        Captures belong to a length and to the caches in use at once: as in a duel, the baseline's is kept meanwhile.
        Returns the models that decode.
        """
        prompt, new = self.prompts[0], self.spec["max_new_tokens"]
        if not has_graphs(self.model):
            cut = [Passage(p.document, p.offset, p.tokens[-_WARM_UP_PROMPT:]) for p in prompt.passages]
            prompt, new = Prompt(prompt.number, prompt.seed, cut), min(_WARM_UP_TOKENS, new)
        baseline = self._make(self.baseline, [prompt], self.eos, new)
        baseline.run()
        models = set(baseline.models)
        for contender in self.contenders:
            contender.together = self._together(contender.arm)
            method = self._make(contender.arm, [prompt], self.eos, new)
            method.run()
            models.update(method.models)
        return list(models)

    def _check(self, contender: Contender) -> dict | None:
        """Whether whole rounds take what their parts do; a disagreement is measured again, then it is an error."""
        first = self._forgotten(contender, contender.record)
        if first is None or not first["disagrees"]:
            return first
        again = Contender(contender.arm)
        for prompt in self.prompts[: self.spec["least_prompts"]]:
            self._duel(again, prompt)
        second = self._forgotten(again, again.record)
        if second is not None and second["disagrees"]:
            raise ValueError(
                f"{self.spec['id']}: whole rounds take {_percent(first)} and, measured again, {_percent(second)} what "
                "their parts take by themselves, which chance does not explain: something works beside the parts, or "
                "the machine is too disturbed to say; measure again with nothing else running"
            )
        return first | {"again": second}

    def _forgotten(self, contender: Contender, record: Record) -> dict | None:
        stretches = Stretches.from_columns(record.stretches)
        return forgotten(
            contender.brackets(), stretches, tolerance=max(self.spec["precision"], _NO_MATTER), once_in=_ONCE_IN
        )


def _captured(models: list) -> int:
    """Graphs captured so far: steps of these models, and what stands between steps."""
    return captures(models) + recording.captured


def _percent(check: dict) -> str:
    return f"{100 * check['ratio']:.1f}% (plus or minus {100 * check['half_width']:.1f}) of"


def _baseline_figures(baseline: Baseline, read: Read, tokens: int) -> dict:
    """The figures of the baseline for as many tokens as the method gave, from its steps beside the method's parts."""
    step = sum(baseline.seconds) / len(baseline.seconds)
    cache = baseline.loop.target.cache
    return {
        "n_tokens": tokens,
        "ttft_s": read.baseline,
        "tpot_ms": 1e3 * step,
        "tokens_per_s": tokens / (read.baseline + step * (tokens - 1)),
        "kv_bytes": cache.nbytes // cache.slots * (baseline.prompt_length + tokens - 1),
    }

"""What `specpress certify` finds: nothing of what is registered, and each way to be wrong that it is there to find."""

import pytest
import torch
from tree_drafters import Branching
from wrong_rules import PublicVariant

import specpress.speculation.verification as verification_module
from specpress.certification import enumerated, sampled
from specpress.certification.certificate import certify, fitting
from specpress.certification.small import maker
from specpress.cli.main import main
from specpress.drafters import CompressedTarget, Drafter, DraftModel, PromptLookup, Proposal
from specpress.laws.law import Law
from specpress.laws.sampling import SamplingParams
from specpress.speculation.verification import OF_TREES, RULES, Rest
from specpress.study.registry import DRAFTERS, resolve

RULE = RULES["traversal"]


def listed(kind, rule=RULE):
    return enumerated.certify(lambda family: maker(kind, family), rule)


class WithReplacement(Branching):
    """Samples that may come twice."""

    def __init__(self, model):
        super().__init__(model, replacement=True)


class Mixed(Branching):
    """The most likely child first, then one that is drawn without it."""

    def __init__(self, model):
        super().__init__(model, top=1)


class Children(DraftModel):
    """Two children of each token of a main line."""

    def __init__(self, model):
        super().__init__(model, children=2)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Children, "traversal"),
        (DraftModel, "block"),
        (PromptLookup, "token"),
        (CompressedTarget, "token"),
        (Branching, "recursive"),
        (WithReplacement, "traversal"),
        (Mixed, "traversal"),
    ],
)
def test_what_is_right_is_found_right(kind, rule):
    found = listed(kind, RULES[rule])
    assert found.broken is None
    assert found.off < 1e-12
    assert found.proposals >= {PromptLookup: 2, Mixed: 6}.get(kind, 27)


class Undisclosed(Branching):
    """A sibling is drawn without replacement, but its law is given as if it could be drawn again."""

    def propose(self, context, gamma, stop):
        found = super().propose(context, gamma, stop)
        laws = []
        for node, law in enumerate(found.laws):
            earlier = [i for i in range(node) if found.parents[i] == found.parents[node]]
            laws.append(found.laws[earlier[0]] if earlier else law)
        return found._replace(laws=laws)


class Flattered(DraftModel):
    """Its laws are given sharper than they are drawn from."""

    def propose(self, context, gamma, stop):
        found = super().propose(context, gamma, stop)
        return found._replace(laws=[Law(law.tokens, law.mass**2 / (law.mass**2).sum()) for law in found.laws])


class Dropping(DraftModel):
    """Drafted tokens are dropped because of their value; the others are the target's own, so that all of them stay."""

    def start(self, target, *rest):
        self.model = target
        super().start(target, *rest)

    def propose(self, context, gamma, stop):
        found = super().propose(context, gamma, stop)
        kept = int((found.tokens >= sampled.VOCABULARY // 2).long().cumprod(0).sum())
        self.rollback(len(context) + kept)
        return Proposal(found.tokens[:kept], found.laws[:kept])


@pytest.mark.parametrize("kind", [Undisclosed, Flattered])
def test_a_drafter_that_gives_another_law_than_it_draws_from_is_found_out(kind):
    assert "it is not drawn from that law" in listed(kind).broken


def test_what_cannot_be_enumerated_is_told_by_its_text():
    found = certify(Dropping, "token", rounds=1500)
    assert found.enumerated is None
    assert str(found).startswith("BROKEN: the text does not follow the target's law: p = ")


class LateGreed(DraftModel):
    """Its fourth token is the likeliest, and comes with the whole law, the target's own, as if it had been drawn."""

    def start(self, target, *rest):
        self.model = target
        super().start(target, *rest)

    def propose(self, context, gamma, stop):
        found = super().propose(context, gamma, stop)
        for law in list(found.laws)[3:4]:
            found.tokens[3] = int(law.tokens[law.mass.argmax()])
        return found


def test_what_is_wrong_of_the_last_token_of_a_round_alone_is_told_by_the_text():
    found = sampled.certify(lambda family: maker(LateGreed, family, sampled.VOCABULARY), "token", 4000)
    assert "does not follow the target's law" in found.broken


class Sharp(DraftModel):
    """Draws at a temperature of its own, and gives the laws it draws from: tokens of hardly any mass among them."""

    def start(self, target, sampling, *rest):
        super().start(target, SamplingParams(temperature=0.05), *rest)


def test_a_draft_with_sharp_laws_is_found_right():
    assert certify(Sharp, "token", rounds=300).broken is None


class Silent(PromptLookup):
    def propose(self, context, gamma, stop):
        return Proposal(context[:0], [])


def test_a_drafter_that_drafts_nothing_is_not_certified():
    assert certify(Silent, "token", rounds=30).broken.startswith("nothing was drafted")


def credulous(target, draft, drafted, tree, coin):
    """A rule that keeps the first path."""
    node = -1
    while tree.children[node]:
        node = tree.children[node][0]
    return node, target[node + 1]


def test_a_rule_of_ones_own_that_is_wrong_is_found_out_by_either_means(monkeypatch):
    monkeypatch.setitem(RULES, "credulous", credulous)
    assert "has probability" in listed(Mixed, credulous).broken
    text = sampled.certify(lambda family: maker(DraftModel, family, sampled.VOCABULARY), "credulous", 300)
    assert text.broken


@pytest.mark.parametrize("rule", OF_TREES)
def test_a_biased_residual_is_found_out(rule, monkeypatch):
    monkeypatch.setattr(Rest, "refuse", lambda rest, draft: None)
    assert "has probability" in listed(Mixed, RULES[rule]).broken


def test_the_variant_of_public_code_is_found_out(monkeypatch):
    """a = S / (1 - Q(x)): off by little, which no text of reasonable length would show."""
    monkeypatch.setattr(verification_module, "Rest", PublicVariant)
    assert "has probability" in listed(WithReplacement).broken


@pytest.mark.parametrize("name", DRAFTERS)
def test_each_registered_drafter_can_be_made_and_its_text_is_the_targets(name):
    kind = resolve(DRAFTERS, name, "drafter")
    for rule in fitting(kind)[:1]:
        text = sampled.certify(lambda family: maker(kind, family, sampled.VOCABULARY), rule, 300)
        assert text.broken is None


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAFTERS)
def test_each_registered_drafter_is_certified(name, capsys):
    assert main(["certify", "--drafter", name]) == 0
    assert capsys.readouterr().out.count(": lossless (") == 2


def test_the_command_says_so_by_its_status(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_drafters.py").write_text(
        "from specpress.drafters import Drafter, Proposal, PromptLookup\n"
        "class Fine(PromptLookup):\n    pass\n"
        "class Liar(PromptLookup):\n"
        "    def propose(self, context, gamma, stop):\n"
        "        found = super().propose(context, gamma, stop)\n"
        "        return found._replace(laws=[self._law(law) for law in found.laws])\n"
        "    def _law(self, law):\n"
        "        import numpy as np\n"
        "        return type(law)(np.arange(3), np.full(3, 1 / 3))\n"
    )
    assert main(["certify", "--drafter", "own_drafters:Fine", "--verification", "block", "--rounds", "500"]) == 0
    assert "own_drafters:Fine, block: lossless (" in capsys.readouterr().out
    assert main(["certify", "--drafter", "own_drafters:Liar", "--verification", "block", "--rounds", "500"]) == 1
    assert "own_drafters:Liar, block: BROKEN: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drafter", "nobody"], "unknown drafter 'nobody'"),
        (["--drafter", "no_such_module:Drafter"], "no_such_module:Drafter cannot be found"),
        (["--drafter", "draft_model", "--verification", "mine"], "unknown verification 'mine'"),
        (["--rounds", "5"], "--rounds must be at least 500"),
        (["--drafter", ":Drafter"], "':Drafter' names nothing: give MODULE:NAME"),
        (["--drafter", "os:path"], "os:path is neither a class nor a function, but module"),
        (["--drafter", "own:Class"], "own:Class cannot be imported: SyntaxError"),
        (["--drafter", "builtins:int"], "int makes no drafter: no signature found"),
        (["--drafter", "fractions:Fraction"], "Fraction is no drafter"),
        (["--drafter", "prompt_lookup", "--verification", "json:dumps"], "json:dumps: it fails with TypeError"),
    ],
)
def test_bad_arguments_are_said_in_a_line(arguments, message, capsys, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("class Class(:\n")
    monkeypatch.chdir(tmp_path)
    assert main(["certify", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


class Greedy(Drafter):
    """A parameter that nobody knows."""

    def __init__(self, appetite):
        self.appetite = appetite


def test_a_drafter_that_cannot_be_made_says_what_it_lacks():
    with pytest.raises(ValueError, match="Greedy needs appetite, which certify cannot make up"):
        maker(Greedy, "llama")


def test_uniforms_of_a_text_that_cannot_be_are_none():
    target = maker(DraftModel, "llama", sampled.VOCABULARY)().model
    prompt = torch.zeros(1, 3, dtype=torch.long)
    tokens = torch.randint(6, (1, 300), generator=torch.Generator().manual_seed(0))
    assert sampled.transformed(target, prompt, tokens, seed=0) is None

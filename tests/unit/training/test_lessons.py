"""What a target says to a text, what a draft is trained to with it, and what becomes of both."""

import copy
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path

import pytest
import torch
from stories import (
    ARCHITECTURES,
    VOCABULARY,
    make_config,
    make_documents,
    make_target,
    make_windows,
    make_workspace,
    run,
)

from specpress.data.store import save_split
from specpress.laws.sampling import SamplingParams, probabilities
from specpress.models.feature_head import normed
from specpress.study.draft_config import DraftError
from specpress.training import lesson as lessons
from specpress.training import train
from specpress.training.draft import cut_draft, cut_head, tokens_by_mass
from specpress.training.fit import fit
from specpress.training.judge import glance, judge, readings
from specpress.training.lesson import Lesson, hear, kept
from specpress.training.objectives import loss_of, rows_of_tokens
from specpress.training.predictions import predictions
from specpress.training.writing import rewritten

ALL = torch.arange(VOCABULARY)
KL = {"forward_kl": 1.0}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def heard(request):
    """A target, windows of 32 tokens, and what it says to them: whole laws, and two of its layers."""
    target, tokenizer = make_target(request.param)
    windows = make_windows(tokenizer)[:12]
    return target, windows, hear(target, windows, VOCABULARY, (2, 3))


def test_a_lesson_is_what_transformers_says(heard):
    target, windows, lesson = heard
    with torch.inference_mode():  # of a copy, on which transformers leaves its hooks
        output = copy.deepcopy(target)(windows[:, :-1], output_hidden_states=True)
    laws = torch.zeros_like(output.logits).scatter(-1, lesson.top.long(), lesson.logs.float().exp())
    torch.testing.assert_close(laws, output.logits.softmax(-1), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(lesson.states[..., :32], output.hidden_states[2])
    few = hear(target, windows, 5, ())
    assert few.states is None
    assert torch.equal(few.top, lesson.top[..., :5])


def test_objectives_by_hand(heard):
    """On three known tokens of each law, one of them outside the head, with the rest as one outcome."""
    target, windows, _ = heard
    lesson, ids = hear(target, windows[:2], 3, ()), torch.arange(0, VOCABULARY, 2)
    row_of = rows_of_tokens(ids, VOCABULARY)
    logits = torch.randn(2, 32, len(ids), generator=torch.Generator().manual_seed(0))
    divergences, acceptances = [], []
    for p_logs, top, q in zip(
        lesson.logs.flatten(0, 1), lesson.top.flatten(0, 1), logits.softmax(-1).flatten(0, 1), strict=True
    ):
        p = p_logs.float().exp()
        known = [(p[i].item(), q[row_of[t]].item()) for i, t in enumerate(top.long()) if row_of[t] >= 0]
        known.append((max(0, 1 - p.sum().item()), 1 - sum(mass for _, mass in known)))
        divergences.append(-sum(a * torch.tensor(b).log().item() for a, b in known))
        acceptances.append(sum(min(pair) for pair in known))
    mean = sum(divergences) / len(divergences)
    assert loss_of(logits, 0, lesson, row_of, KL).item() == pytest.approx(mean, rel=1e-4)
    accepted = -sum(torch.tensor(a).log().item() for a in acceptances) / len(acceptances)
    mixed = loss_of(logits, 0, lesson, row_of, {"forward_kl": 2.0, "acceptance": 0.5}).item()
    assert mixed == pytest.approx(2 * mean + 0.5 * accepted, rel=1e-4)


@pytest.mark.parametrize("objective", [KL, {"acceptance": 1.0}])
def test_the_target_itself_is_the_least_of_both(heard, objective):
    target, _, lesson = heard
    row_of, (logits, offset) = rows_of_tokens(ALL, VOCABULARY), next(predictions(target, lesson))
    logits = logits.detach()
    least = loss_of(logits, offset, lesson, row_of, objective)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    assert least < loss_of(logits + 0.3 * noise, offset, lesson, row_of, objective)
    if "acceptance" in objective:
        assert least == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("objective", [KL, {"acceptance": 1.0}, {"forward_kl": 1.0, "acceptance": 1.0}])
def test_a_draft_learns_the_targets_laws(heard, objective):
    target, windows, lesson = heard
    draft = cut_draft(target, layers=2, token_ids=ALL)
    before, config = judge(draft, target, windows), make_config(objective=objective, passes=20, learning_rate=3e-3)
    fit(draft, lesson, config, mixed_precision=False)
    assert judge(draft, target, windows)["acceptance"] > before["acceptance"] + 0.02


def test_what_is_looked_at_in_training_is_acceptance_by_whole_laws(heard):
    """Of a head over part of the vocabulary, while it changes, without the target."""
    target, windows, _ = heard
    draft = cut_draft(target, layers=1, token_ids=torch.arange(0, VOCABULARY, 2))
    seen = list(readings(draft, target, windows, batch=5))
    assert glance(draft, seen) == pytest.approx(judge(draft, target, windows)["acceptance"], rel=1e-5)
    draft.get_output_embeddings().weight.data.mul_(0.25)
    after = judge(draft, target, windows)["acceptance"]
    assert glance(draft, seen) == pytest.approx(after, rel=1e-5)
    with torch.no_grad():  # transformers' own laws over the whole vocabulary, where the draft has no mass elsewhere
        p, q = target(windows[:, :-1]).logits.softmax(-1), draft(windows[:, :-1]).logits.softmax(-1)
    wide = torch.zeros_like(p).index_copy(-1, draft.head_token_ids, q)
    assert after == pytest.approx(torch.minimum(p, wide).sum(-1).mean().item(), rel=1e-4)


def test_lengths_are_those_of_float32_in_every_dtype():
    """States of a head of one layer are short: torch's own epsilon of bfloat16 would halve them."""
    short = 0.01 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normed(short.bfloat16()).float(), normed(short), atol=0.02, rtol=0.02)
    torch.testing.assert_close(normed(short).pow(2).mean(-1), torch.ones(4), atol=0.02, rtol=0.02)


def test_a_head_begins_as_the_draft_of_its_layers(heard):
    target, windows, lesson = heard
    head, draft = cut_head(target, features=(2, 3), token_ids=ALL, layers=2), cut_draft(target, layers=2, token_ids=ALL)
    with torch.no_grad():
        logits, offset = next(predictions(head, lesson))
        said, _ = next(predictions(draft, Lesson(windows[:, 1:])))
    assert offset == 1
    torch.testing.assert_close(logits, said)


def test_a_head_learns_to_draft_several_tokens(heard):
    target, windows, lesson = heard
    head = cut_head(target, features=(2, 3), token_ids=ALL)
    before = judge(head, target, windows)["acceptance_by_position"]
    config = make_config(kind="head", features=[2, 3], unrolled=2, objective=KL, passes=20, learning_rate=3e-3)
    fit(head, lesson, config, mixed_precision=False)
    after = judge(head, target, windows)["acceptance_by_position"]
    assert len(after) == 4
    assert all(b > a + 0.02 for a, b in zip(before[:2], after[:2], strict=True))


def test_the_chains_of_a_head_are_what_it_drafts(heard):
    """In drafting, by the engine, on its own cache; here three tokens ahead of the middle of a window."""
    from specpress.drafters import FeatureHead
    from specpress.engine.attention import decode_attention
    from specpress.engine.cached_model import CachedModel
    from specpress.laws.sampling import Randomness
    from specpress.schedules.base import never
    from specpress.speculation.prefill import prefill

    target, windows, _ = heard
    head, context = cut_head(target, features=(2, 3), token_ids=ALL), windows[0, :12]
    drafter, cached = FeatureHead(head), CachedModel(target, 40)
    drafter.start(target, SamplingParams(), Randomness(0), 40)
    with decode_attention(target, head):
        prefill(cached, context[None, :-1], drafter=drafter)
        proposal = drafter.propose(context, 3, never)
    text = torch.cat([context, proposal.tokens, context])[None, :33]
    lesson = hear(target, text, 5, (2, 3))
    with torch.no_grad():
        for (logits, offset), law in zip(predictions(head, lesson, 3), proposal.laws, strict=True):
            said = probabilities(logits[0, 10], SamplingParams())  # of the last token that was read
            torch.testing.assert_close(torch.from_numpy(law.mass).float(), said, atol=1e-4, rtol=1e-3)
            assert offset in (1, 2, 3)


def test_the_heads_tokens_are_those_of_most_mass(heard):
    _, _, lesson = heard
    mass = torch.zeros(VOCABULARY).index_add(0, lesson.top.flatten(), lesson.logs.float().exp().flatten())
    assert tokens_by_mass(lesson, 9, VOCABULARY, []).tolist() == mass.topk(9).indices.sort().values.tolist()
    assert 7 in tokens_by_mass(lesson, 9, VOCABULARY, [7])


def test_the_target_writes_the_second_half_of_its_share(heard):
    target, windows, _ = heard
    config = make_config(own_text=0.5, own_temperature=0.8)
    written = rewritten(target, windows, config)
    same = (written == windows).all(1)
    assert same.tolist() == [i % 2 == 1 for i in range(12)]
    assert torch.equal(written[:, :16], windows[:, :16])
    assert torch.equal(written, rewritten(target, windows, config))
    assert torch.equal(rewritten(target, windows, make_config(own_text=0.0)), windows)


def test_a_lesson_is_heard_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return Lesson(torch.arange(6).view(2, 3), states=torch.arange(16.0).view(2, 2, 4))

    identities = ({"a": 1}, {"a": 1}, {"a": 2})
    (first, seconds), (again, told), (other, _) = (kept(tmp_path, what, (1, 3), make) for what in identities)
    assert told == seconds > 0
    assert len(made) == 2
    assert again.top is None
    assert torch.equal(first.states, again.states)
    assert torch.equal(kept(tmp_path, {"a": 1}, (3,), make)[0].states, first.states[..., 2:])
    assert kept(tmp_path, {"a": 1}, (), make)[0].states is None
    assert len(made) == 2
    kept(tmp_path, {"a": 2}, (1, 2), make)
    assert len(made) == 3
    assert torch.equal(other.tokens, first.tokens)
    manifests = [json.loads(path.read_text()) for path in tmp_path.glob("*/manifest.json")]
    assert sorted(manifest["a"] for manifest in manifests) == [1, 2]
    assert all("lesson.safetensors" in manifest["files"] for manifest in manifests)


def test_of_several_trainings_at_once_one_has_the_text_read(tmp_path):
    made = []

    def make():
        made.append(1)
        time.sleep(0.2)
        return Lesson(torch.arange(6).view(2, 3))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: kept(tmp_path, {"a": 1}, (), make), range(4)))
    assert len(made) == 1
    assert len({seconds for _, seconds in found}) == 1


@pytest.mark.parametrize("changed", train._HEARD_BY)
def test_a_lesson_is_of_the_code_that_heard_it(changed, monkeypatch):
    heard, read = (
        train.Teacher(make_config(), make_target("llama")[0], "digest", Path(), progress=False),
        Path.read_bytes,
    )
    before = heard._identity(torch.zeros(2, 5))
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * str(path).endswith(changed))
    assert heard._identity(torch.zeros(2, 5)) != before


def test_a_lesson_without_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons.shutil, "disk_usage", lambda _: lessons.shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(DraftError, match="has 0 MB free; lower tokens or top"):
        kept(tmp_path, {}, (), lambda: Lesson(torch.zeros(4, 4, dtype=torch.long)))


def test_a_head_is_trained_written_and_told_by_position(tmp_path, capsys):
    workspace = make_workspace(tmp_path, torch.float32)
    config = make_config(kind="head", features=[1, 3], unrolled=2, objective="forward_kl", vocabulary_by="target",
                         own_text=0.5, tokens=2048, passes=2)  # fmt: skip
    metrics = run(workspace, config, progress=True)
    assert metrics["tokens"] == 2048
    assert len(metrics["held_out"]["stories"]["acceptance_by_position"]) == 4
    assert [point["tokens"] for point in metrics["progress"]] == [2048 * i // 8 for i in range(1, 9)]
    assert all(0 < point["validation_acceptance"] < 1 for point in metrics["progress"])
    last = metrics["progress"][-1]["validation_acceptance"]
    assert last == pytest.approx(metrics["validation"]["stories"]["acceptance"], rel=1e-5)
    assert f"validation_acceptance={last:.3f}" in capsys.readouterr().err
    from specpress.drafters import FeatureHead
    from specpress.models.load import load_model

    assert FeatureHead(load_model(workspace / "draft", device="cpu")[0]).reads == (1, 3)


# --- interrupted, and gone wrong -------------------------------------------------------------------------------------


class Killed(BaseException):
    """As a signal would end it."""


@pytest.mark.parametrize("changes", [{}, {"kind": "head", "unrolled": 2, "objective": "forward_kl"}])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, changes):
    workspace, config = make_workspace(tmp_path, torch.float32), make_config(tokens=2048, passes=2, **changes)
    whole = run(workspace, config, "whole")
    monkeypatch.setattr("specpress.training.checkpoint.Checkpoint.due", property(lambda self: True))
    saved, stops = train.Checkpoint.save, [5, 11]

    def save(self, draft, optimizer, noted):
        saved(self, draft, optimizer, noted)
        if stops and noted["steps"] == stops[0]:
            stops.pop(0)
            raise Killed

    monkeypatch.setattr("specpress.training.checkpoint.Checkpoint.save", save)
    for _ in range(2):
        with pytest.raises(Killed):
            run(workspace, config, "killed")
        assert not (workspace / "killed" / "manifest.json").exists()
    again, looked = run(workspace, config, "killed"), itemgetter("validation_acceptance")
    assert [looked(p) for p in again["progress"]] == [looked(p) for p in whole["progress"]]
    assert again["loss"] == whole["loss"]
    assert again["held_out"] == whole["held_out"]
    assert not (workspace / "killed" / ".checkpoint").exists()
    ours, theirs = ((workspace / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert ours == theirs


def test_another_trainings_checkpoint_is_not_gone_on_from(tmp_path):
    target, _ = make_target("llama")
    draft = cut_draft(target, layers=1, token_ids=ALL)
    optimizer = torch.optim.AdamW([p for p in draft.parameters() if p.requires_grad])
    sum(p.sum() for p in draft.parameters()).backward()
    optimizer.step()
    train.Checkpoint(tmp_path / "c", {"of": 1}).save(draft, optimizer, {"steps": 3})
    assert train.Checkpoint(tmp_path / "c", {"of": 2}).load(draft, optimizer) is None
    assert train.Checkpoint(tmp_path / "none", {"of": 1}).load(draft, optimizer) is None
    assert train.Checkpoint(tmp_path / "c", {"of": 1}).load(draft, optimizer) == {"steps": 3}
    (tmp_path / "c").write_bytes(b"cut off")
    assert train.Checkpoint(tmp_path / "c", {"of": 1}).load(draft, optimizer) is None


def test_a_killed_training_is_not_gone_on_from_with_other_text(tmp_path, monkeypatch):
    workspace, config = make_workspace(tmp_path, torch.float32), make_config(tokens=1024)
    monkeypatch.setattr("specpress.training.checkpoint.Checkpoint.due", property(lambda self: True))
    saved = train.Checkpoint.save

    def save(self, draft, optimizer, noted):
        saved(self, draft, optimizer, noted)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("specpress.training.checkpoint.Checkpoint.save", save)
        with pytest.raises(Killed):
            run(workspace, config, "killed")
    assert (workspace / "killed" / ".checkpoint").is_file()
    shutil.rmtree(workspace / "stories")
    save_split(workspace / "stories", make_documents(12, words=400), 0.3, {})
    assert run(workspace, config, "killed")["loss"] == run(workspace, config, "whole")["loss"]


def test_a_stamp_tells_texts_and_heads_apart(heard):
    target, windows, lesson = heard
    config, ids = make_config(), torch.arange(64)
    stamps = [
        train._stamp(config, "digest", text, cut_draft(target, layers=1, token_ids=head))
        for text, head in ((lesson, ids), (Lesson(windows), ids), (lesson[:5], ids), (lesson, ids + 1))
    ]
    assert stamps[0] == stamps[1]
    assert len({json.dumps(stamp) for stamp in stamps}) == 3


def test_a_loss_that_is_no_number_stops_with_step_and_reason():
    target, tokenizer = make_target("llama")
    windows, draft = make_windows(tokenizer), cut_draft(target, layers=1, token_ids=ALL)
    calls = []

    def spoil(noted):
        calls.append(noted.steps)
        if noted.steps == 2:
            draft.get_output_embeddings().weight.data[0] = float("nan")

    with pytest.raises(DraftError, match=r"the loss is nan at step 3 of 18, after 256 tokens \(before it: \d"):
        fit(draft, Lesson(windows[:72]), make_config(), mixed_precision=False, report=spoil)
    assert calls == [1, 2]

import copy
import io
import json

import pyarrow as pa
import pytest
import tiny
import torch
from stories import (
    ARCHITECTURES,
    END_OF_TEXT,
    EVERY,
    VOCABULARY,
    make_config,
    make_documents,
    make_target,
    make_windows,
    make_workspace,
    run,
)

from specpress.data.documents import Document
from specpress.data.store import DOCUMENT, load_table, save_tables
from specpress.models.byte_level import byte_tokenizer
from specpress.models.families import family_of
from specpress.models.load import load_model
from specpress.models.save import save_model
from specpress.models.vocabulary import Vocabulary, know_tokens
from specpress.study.draft_config import DraftError
from specpress.training import fit as fitting
from specpress.training import progress, text, train
from specpress.training.draft import cut_draft, head_tokens
from specpress.training.fit import fit
from specpress.training.judge import judge
from specpress.training.lesson import Lesson
from specpress.training.objectives import rows_of_tokens
from specpress.training.text import cut_windows, training_windows


def trained(target, windows, config):
    draft = cut_draft(target, layers=config.layers, token_ids=head_tokens(windows, config.vocabulary, VOCABULARY, []))
    return draft, fit(draft, Lesson(windows), config, mixed_precision=False).losses


def assert_same_weights(first, second):
    weights, others = first.state_dict(), second.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture
def workspace(tmp_path):
    """Directories of a target and of one data set."""
    return make_workspace(tmp_path, torch.float32)


# --- the cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", EVERY)
def test_a_draft_with_all_layers_and_tokens_is_the_target(architecture):
    target, _ = make_target(architecture)
    draft = cut_draft(target, layers=3, token_ids=torch.arange(VOCABULARY))
    ids = torch.randint(VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(0))
    assert torch.equal(draft(ids).logits, target(ids).logits)


@pytest.mark.parametrize("architecture", EVERY)
def test_a_cut_head_gives_the_logits_of_its_tokens(architecture):
    target, _ = make_target(architecture)
    token_ids = torch.tensor([3, 50, 51, 200, END_OF_TEXT])
    draft = cut_draft(target, layers=3, token_ids=token_ids)
    ids = torch.randint(VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(0))
    assert draft.head_token_ids.tolist() == token_ids.tolist()
    torch.testing.assert_close(draft(ids).logits, target(ids).logits[..., token_ids])
    assert torch.equal(draft.get_output_embeddings().weight, target.get_output_embeddings().weight[token_ids])


@pytest.mark.parametrize("architecture", EVERY)
def test_a_cut_draft_has_the_first_layers_and_leaves_the_target_alone(architecture):
    target, _ = make_target(architecture)
    before = copy.deepcopy(target)
    draft = cut_draft(target, layers=1, token_ids=torch.arange(10))
    ids = torch.randint(VOCABULARY, (1, 9), generator=torch.Generator().manual_seed(0))
    after_one_layer = target(ids, output_hidden_states=True).hidden_states[1]
    inside = draft(ids, output_hidden_states=True).hidden_states
    assert len(inside) == 2
    norm = family_of(architecture).final_norm(target)
    torch.testing.assert_close(inside[1], norm(after_one_layer))
    draft.get_output_embeddings().weight.data.zero_()
    assert_same_weights(before, target)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_narrow_draft_keeps_the_units_of_the_largest_weights(architecture):
    """With the other units' weights at zero the target computes what the draft of all layers does."""
    target, _ = make_target(architecture)
    draft = cut_draft(target, layers=3, token_ids=torch.arange(VOCABULARY), mlp_width=40)
    assert draft.config.intermediate_size == 40
    for layer, kept in zip(target.base_model.layers, draft.base_model.layers, strict=True):
        wide, narrow = dict(layer.mlp.named_parameters()), dict(kept.mlp.named_parameters())
        for name in wide:
            first = name.split(".")[0] in ("gate_proj", "up_proj", "dense_h_to_4h")
            units = wide[name].data if first else wide[name].data.T if wide[name].dim() == 2 else None
            own = narrow[name].data if first else narrow[name].data.T if wide[name].dim() == 2 else None
            if units is not None:
                held = (units[:, None] == own[None]).flatten(2).all(-1).any(1) if units.dim() == 2 else None
                if held is not None:
                    assert held.sum() == 40
                    units[~held] = 0
    ids = torch.randint(VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(draft(ids).logits, target(ids).logits, atol=2e-4, rtol=1e-3)


def test_a_tied_target_gives_an_untied_draft():
    target, _ = make_target("llama")
    config = copy.deepcopy(target.config)
    config.tie_word_embeddings = True
    tied = type(target)(config).eval()
    draft = cut_draft(tied, layers=3, token_ids=torch.arange(VOCABULARY))
    ids = torch.arange(20)[None]
    assert torch.equal(draft(ids).logits, tied(ids).logits)
    assert draft.get_output_embeddings().weight is not draft.get_input_embeddings().weight


def test_the_head_covers_the_special_and_the_most_frequent_tokens():
    windows = torch.tensor([[5, 5, 5, 9, 9, 7], [5, 9, 2, 2, 0, 7]])
    assert head_tokens(windows, 4, 12, [11]).tolist() == [2, 5, 9, 11]  # 2 and 7 are equally frequent: the lower id
    assert head_tokens(windows, 12, 12, [11]).tolist() == list(range(12))


# --- the text --------------------------------------------------------------------------------------------------------


def test_windows_predict_every_token_once():
    windows = cut_windows([[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]], 4)
    assert windows.tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]
    assert cut_windows([[0, 1, 2]], 3).shape == (0, 4)


def test_documents_end_with_end_of_text():
    _, tokenizer = make_target("llama")
    assert text.encode([Document("1", "", "ab")], tokenizer) == [[97, 98, END_OF_TEXT]]


@pytest.mark.parametrize(("mixture", "of_small"), [("proportional", 16), ("even", 64)])
def test_mixture(mixture, of_small):
    large, small = torch.zeros(70, 33, dtype=torch.long), torch.ones(10, 33, dtype=torch.long)
    config = make_config(mixture=mixture, tokens=128 * 32, data=["large", "small"])
    if mixture == "even":
        with pytest.raises(DraftError, match=r"not enough training text in small: .* 2048 tokens and holds 320"):
            training_windows({"large": large, "small": small}, config)
        small = small.repeat(2, 1)
    windows = training_windows({"large": large, "small": small}, config)
    assert windows.shape == (128, 33)
    assert windows[:, 0].sum() == of_small


def test_no_window_comes_a_third_time_before_all_came_twice():
    rows = torch.arange(10)[:, None].expand(10, 33)
    windows = training_windows({"stories": rows}, make_config(tokens=24 * 32))
    counts = windows[:, 0].bincount(minlength=10)
    assert windows.shape == (24, 33)
    assert counts.min() == 2
    assert counts.max() == 3


def test_validation_documents_are_not_trained_on():
    documents = make_documents(40)
    train_half, kept = text.split_validation(documents, 0, "stories")
    assert len(kept) == 2
    assert sorted(train_half + kept, key=lambda d: int(d.id)) == documents
    assert kept != text.split_validation(documents, 1, "stories")[1]


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_cross_entropy_go_down_and_embeddings_stay(architecture):
    target, tokenizer = make_target(architecture)
    windows = make_windows(tokenizer)
    untrained = cut_draft(target, layers=2, token_ids=head_tokens(windows, 64, VOCABULARY, []))
    draft, losses = trained(target, windows, make_config())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert judge(draft, target, windows)["cross_entropy"] < 0.8 * judge(untrained, target, windows)["cross_entropy"]
    assert torch.equal(draft.get_input_embeddings().weight, target.get_input_embeddings().weight)
    changed = [n for n, p in draft.named_parameters() if not torch.equal(p, untrained.get_parameter(n))]
    assert len(changed) == len(list(draft.parameters())) - 1  # everything but the embeddings learns


def test_same_seed_same_weights():
    target, tokenizer = make_target("llama")
    windows = {"stories": make_windows(tokenizer)}
    first, again, other = (
        trained(target, training_windows(windows, config), config)[0]
        for config in (make_config(), make_config(), make_config(seed=1))
    )
    assert_same_weights(first, again)
    with pytest.raises(AssertionError):
        assert_same_weights(first, other)


def test_a_batch_without_a_token_of_the_head_does_no_harm():
    target, _ = make_target("llama")
    draft = cut_draft(target, layers=1, token_ids=torch.tensor([0, 1]))
    fit(draft, Lesson(torch.full((4, 9), 5)), make_config(batch=4), mixed_precision=False)
    assert all(parameter.isfinite().all() for parameter in draft.parameters())


def test_softening_takes_the_best_scale():
    target, tokenizer = make_target("llama")
    windows = make_windows(tokenizer)[:4]
    draft = cut_draft(target, layers=1, token_ids=torch.arange(VOCABULARY))
    losses = {}
    for scale in fitting.HEAD_SCALES:
        scaled = copy.deepcopy(draft)
        scaled.get_output_embeddings().weight.data.mul_(scale)
        losses[scale] = judge(scaled, target, windows)["cross_entropy"]
    best = min(losses, key=losses.get)
    assert best < 1
    row_of = rows_of_tokens(torch.arange(VOCABULARY), VOCABULARY)
    assert fitting.soften_head(draft, Lesson(windows), row_of, make_config()) == best
    assert judge(draft, target, windows)["cross_entropy"] == pytest.approx(losses[best])


def test_warmup_and_cosine():
    assert fitting.warmup_cosine(0.025) == pytest.approx(0.5)
    assert fitting.warmup_cosine(0.05) == pytest.approx(1)
    assert fitting.warmup_cosine(0.525) == pytest.approx(0.5)
    assert fitting.warmup_cosine(1) == pytest.approx(0)


# --- judging ---------------------------------------------------------------------------------------------------------


def test_the_target_accepts_itself():
    target, tokenizer = make_target("gpt_neox")
    result = judge(target, target, make_windows(tokenizer)[:4])
    assert result["acceptance"] == pytest.approx(1, abs=1e-5)
    assert result["coverage"] == 1
    assert result["n_tokens"] == 4 * 32


def test_judging_by_hand():
    target, tokenizer = make_target("llama")
    windows = make_windows(tokenizer)[:3]
    token_ids = head_tokens(windows, 12, VOCABULARY, [])
    draft = cut_draft(target, layers=1, token_ids=token_ids)
    overlaps, losses = [], []
    for row in windows:
        p, q = target(row[None, :-1]).logits[0].softmax(-1), draft(row[None, :-1]).logits[0].softmax(-1)
        for i, token in enumerate(row[1:].tolist()):
            full = torch.zeros(VOCABULARY).index_put((token_ids,), q[i])
            overlaps.append(torch.minimum(p[i], full).sum().item())
            losses += [-full[token].log().item()] if token in token_ids else []
    result = judge(draft, target, windows)
    assert result["acceptance"] == pytest.approx(sum(overlaps) / len(overlaps), rel=1e-5)
    assert result["cross_entropy"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert result["coverage"] == pytest.approx(len(losses) / len(overlaps))


@pytest.mark.parametrize("size", [300, 320])
def test_a_head_may_cover_padding_of_the_vocabulary_which_the_target_never_says(size):
    """As far as the vocabulary is padded, or as all of it: 257 tokens in 320 rows."""
    target, tokenizer = tiny.llama(vocabulary=320), byte_tokenizer()
    know_tokens(target, Vocabulary.of(tokenizer.get_vocab()))
    windows = make_windows(tokenizer)[:3]
    draft = cut_draft(target, layers=1, token_ids=head_tokens(windows, size, 320, []))
    with torch.no_grad():
        p, q = target(windows[:, :-1]).logits[..., :257].softmax(-1), draft(windows[:, :-1]).logits.softmax(-1)
    expected = torch.minimum(p, q[..., :257]).sum(-1).mean().item()
    assert judge(draft, target, windows)["acceptance"] == pytest.approx(expected, rel=1e-4)


# --- the whole of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trained_saved_and_loaded(tmp_path, dtype):
    workspace = make_workspace(tmp_path, dtype)
    metrics = run(workspace, make_config())
    assert json.loads((workspace / "draft" / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert metrics["tokens"] == 4096
    assert metrics["loss"][-1]["tokens"] == 4096
    assert metrics["loss"][-1]["loss"] < metrics["loss"][0]["loss"]
    assert metrics["head_tokens"] == 64
    assert 0 < metrics["held_out"]["stories"]["acceptance"] < 1
    assert metrics["held_out"].keys() == metrics["validation"].keys() == {"stories"}
    draft, tokenizer = load_model(workspace / "draft", device="cpu")
    target, _ = load_model(workspace / "target", device="cpu")
    assert draft.dtype == target.dtype == dtype
    assert END_OF_TEXT in draft.head_token_ids
    assert metrics["parameters"] == sum(p.numel() for p in draft.parameters())
    found = text.read_text(make_config(), {"stories": workspace / "stories"}, tokenizer)
    rounding = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]  # loaded weights lie elsewhere in memory
    accepted = judge(draft, target, found.held_out["stories"])
    told = metrics["held_out"]["stories"]
    assert accepted.pop("acceptance_by_position") == pytest.approx(told.pop("acceptance_by_position"), rel=rounding)
    assert accepted == pytest.approx(told, rel=rounding)


def test_a_saved_draft_gives_the_same_logits(workspace):
    target, tokenizer = make_target("gpt_neox")
    draft, _ = trained(target, make_windows(tokenizer), make_config(tokens=256))
    save_model(draft, tokenizer, workspace / "saved", {"kind": "draft"})
    loaded, _ = load_model(workspace / "saved", device="cpu")
    ids = torch.arange(20)[None]
    assert_same_weights(loaded, draft)
    torch.testing.assert_close(loaded(ids).logits, draft(ids).logits)


def test_the_test_half_changes_nothing_but_the_held_out_figures(workspace):
    run(workspace, make_config(), "first")
    halves = {half: load_table(workspace / "stories", half, DOCUMENT) for half in ("train", "test")}
    other = pa.array(["zebra quartz " * 100] * len(halves["test"]), pa.large_string())
    halves["test"] = halves["test"].set_column(DOCUMENT.names.index("text"), "text", other)
    save_tables(workspace / "stories", halves, {})
    run(workspace, make_config(), "second")
    assert_same_weights(*(load_model(workspace / name, device="cpu")[0] for name in ("first", "second")))
    first, second = (json.loads((workspace / name / "metrics.json").read_text()) for name in ("first", "second"))
    assert first["validation"] == second["validation"]
    assert first["held_out"] != second["held_out"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 4}, "layers: 4 asked for, the target has 3"),
        ({"mlp_width": 129}, "mlp_width: 129 asked for, the target has 128"),
        ({"kind": "head", "features": [1, 4]}, "features: layer 4 asked for, the target has 3"),
        ({"vocabulary": 258}, "vocabulary: 258 tokens asked for, the target has 257"),
        ({"sequence": 4096}, "sequence: 4096 tokens, the target takes at most 2048"),
        ({"sequence": 2000}, "not enough text in stories: its validation documents"),
        ({"tokens": 10**6}, "not enough training text in stories: .* lower tokens"),
        ({"data": ["stories", "poems"]}, "the draft names stories, poems; directories are given for: stories"),
    ],
)
def test_what_cannot_be_made_is_refused_before_training(workspace, monkeypatch, changes, message):
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(DraftError, match=message):
        run(workspace, make_config(**changes))
    assert not (workspace / "draft").exists()


def test_a_target_in_fewer_bits_is_refused_before_training(workspace):
    file = workspace / "target" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights_format": "q4"}))
    with pytest.raises(DraftError, match=r"target: its weights are held in q4, .* train on the model in bfloat16"):
        run(workspace, make_config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 3}, "unknown key layer; a draft has name, target, data, kind, layers"),
        ({"layers": 0}, "layers: expected a whole number of at least 1, got 0"),
        ({"tokens": 1e6}, "tokens: expected a whole number"),
        ({"learning_rate": 0}, "learning_rate: expected a positive number"),
        ({"mixture": "odd"}, "mixture: expected proportional or even, got 'odd'"),
        ({"kind": "tree"}, "kind: expected model or head, got 'tree'"),
        ({"objective": "kl"}, "objective: unknown objective 'kl'; known: cross_entropy, forward_kl, acceptance"),
        ({"objective": {"forward_kl": 0}}, "objective.forward_kl: expected a positive weight, got 0"),
        ({"objective": []}, "objective: expected a name or weights by name"),
        ({"own_text": 1.5}, "own_text: expected a number from 0 to 1, got 1.5"),
        ({"features": [2]}, "features: only a feature head has it; set kind to head"),
        ({"unrolled": 2}, "unrolled: only a feature head has it"),
        ({"kind": "head", "features": [2, 1]}, "features: expected ascending layer numbers"),
        ({"kind": "head", "unrolled": 32}, r"unrolled: expected less than sequence \(32\), got 32"),
        ({"mlp_width": 0}, "mlp_width: expected a whole number of at least 1"),
        ({"data": []}, "data: name at least one"),
        ({"data": "stories"}, "data: expected a list"),
    ],
)
def test_malformed_configurations_are_refused(changes, message):
    with pytest.raises(DraftError, match=message):
        make_config(**changes)


def test_too_few_special_rows_and_documents_are_refused():
    with pytest.raises(DraftError, match="vocabulary: 1 tokens cannot hold the 2 special tokens"):
        head_tokens(torch.zeros(1, 4, dtype=torch.long), 1, 10, [8, 9])
    with pytest.raises(DraftError, match="in stories: 1 training documents, at least 2"):
        text.split_validation(make_documents(1), 0, "stories")


def test_progress_in_a_log_is_a_line_of_its_own(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(progress.sys, "stderr", log)
    with progress.progress_bar(1000, "training draft") as bar:
        bar.set_postfix(loss="1.234", refresh=False)
        bar.update(500)
        bar.refresh()
    lines = log.getvalue().splitlines()
    assert any(
        "50% of 1.00k" in line and "tokens/s" in line and "left" in line and "loss=1.234" in line for line in lines
    )
    assert "\r" not in log.getvalue()

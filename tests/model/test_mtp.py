"""The head that predicts two tokens ahead: its loss, its gradients, and that it stays out where it should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dokja.data.batch import make_batch
from dokja.model.decoder import Decoder
from dokja.model.mtp import two_ahead
from dokja.model.norm import rms_norm
from dokja.model.spec import ModelSpec, MtpSpec
from dokja.train.compiled import Runner
from dokja.train.loop import Plan, step_gradients
from dokja.train.objectives import Language
from dokja.train.optim import Optimizer

VOCAB, SEQ = 40, 24
SHAPES = [
    {},
    {"norm": "pre", "mtp": MtpSpec(window=3)},
    {"tied": True, "mtp": MtpSpec(window=5, rope=False), "pattern": "G", "window": None, "rope": "all"},
]


def decoder(**changes) -> Decoder:
    base = dict(
        vocab=VOCAB, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=48, context=64, pattern="LG", window=5,
        mtp=MtpSpec(),
    )  # fmt: skip
    made = Decoder(ModelSpec(**(base | changes))).init_weights(0)
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.0, p.shape[-1] ** -0.5, generator=gen) if p.ndim > 1 else p.uniform_(0.5, 1.5, generator=gen)
    return made


def batch():
    """Two rows: documents of several lengths, padding, and targets that bear no loss, as in SFT."""
    gen = np.random.default_rng(0)
    tokens, docs = gen.integers(0, VOCAB, (2, SEQ)), np.zeros((2, SEQ), np.int32)
    targets = np.full((2, SEQ), -100)
    for row, lengths in enumerate([[9, 1, 2, 8], [3, 21]]):
        at = 0
        for number, length in enumerate(lengths, 1):
            docs[row, at : at + length] = number
            targets[row, at : at + length - 1] = tokens[row, at + 1 : at + length]
            targets[row, at + length - 1] = gen.integers(VOCAB)  # the document's last token is no input
            at += length
    targets[gen.random((2, SEQ)) < 0.3] = -100
    tokens[docs == 0] = 0
    return make_batch((tokens, targets, docs), (2,))


def naive(model: Decoder, b, weights: np.ndarray) -> tuple[torch.Tensor, float, int]:
    """Document by document, position by position: (weighted loss, nats, targets)."""
    mtp, eps = model.mtp, model.spec.norm_eps
    loss, nats, count = torch.zeros(()), 0.0, 0
    for row in range(len(b.tokens_BL)):
        for number in range(1, b.docs_BL[row].max() + 1):
            at = np.flatnonzero(b.docs_BL[row] == number)
            text = torch.tensor(b.tokens_BL[row, at])[None]
            if len(at) < 2:
                continue
            h = model.hidden(text)[:, :-1]
            after = F.embedding(text[:, 1:], model.embed)
            pair = rms_norm(after, mtp.embed_norm, eps), rms_norm(h, mtp.hidden_norm, eps)
            x = torch.cat(pair, -1) @ mtp.fc_weight.T
            rows = model.rows(text[:, :-1])
            q, k, v = mtp.block.qkv(x, rows.rot)
            o = torch.zeros_like(q)
            window = mtp.block.layer.window or len(at)
            for t in range(len(at) - 1):
                seen = slice(max(0, t - window + 1), t + 1)
                for head in range(4):
                    scores = k[0, seen, head // 2] @ q[0, t, head] / 4.0
                    o[0, t, head] = scores.softmax(0) @ v[0, seen, head // 2]
            x, _ = mtp.block.finish(x, o)
            logp = model.logits(rms_norm(x, mtp.norm, eps)).log_softmax(-1)[0]
            for t in range(len(at) - 1):
                if (target := b.targets_BL[row, at[t + 1]]) >= 0:
                    loss = loss - weights[row, at[t + 1]] * logp[t, target]
                    nats -= float(logp[t, target].detach())
                    count += 1
    return loss, nats, count


def gradients(model: Decoder) -> dict[str, torch.Tensor | None]:
    return {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_loss_and_its_gradients_are_those_of_a_loop_over_documents_and_positions(shape):
    b = batch()
    weights = np.random.default_rng(1).random(b.targets_BL.shape).astype(np.float32)
    model, plain = decoder(**shape), decoder(**shape)
    runner = Runner(model, torch.float32, compile=False, rows=2, mtp_loss=0.3)
    nats = runner.backward(b.tokens_BL, b.docs_BL, b.targets_BL, weights)
    old = Runner(plain, torch.float32, compile=False, rows=2).backward(b.tokens_BL, b.docs_BL, b.targets_BL, weights)
    assert nats == pytest.approx(old, rel=1e-6)  # the loss two ahead is told apart
    loss, extra, count = naive(plain, b, weights)
    (0.3 * loss).backward()
    assert runner.report()["mtp_nats"] == pytest.approx(extra / count, rel=1e-5)
    assert runner.report() == {}
    want = gradients(plain)
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, want[name], rtol=1e-3, atol=2e-5)


def test_the_gradient_reaches_embedding_stack_and_output_matrix():
    b = batch()
    found = []
    for weight in (0.0, 1.0):
        model = decoder()
        runner = Runner(model, torch.float32, compile=False, rows=2, mtp_loss=weight)
        runner.backward(b.tokens_BL, b.docs_BL, b.targets_BL, (b.targets_BL >= 0).astype(np.float32))
        found.append(gradients(model))
    without, with_it = found
    for name, grad in with_it.items():
        if name.startswith("mtp."):
            assert without[name] is None and grad is not None and grad.abs().max() > 0, name
        else:
            assert (grad - without[name]).abs().max() > 1e-4, name


def test_weight_zero_is_the_loss_of_a_model_without_the_head_bit_for_bit():
    b = batch()
    weights = (b.targets_BL >= 0).astype(np.float32)
    model, bare = decoder(), decoder(mtp=None)
    with torch.no_grad():
        for name, p in bare.named_parameters():
            p.copy_(dict(model.named_parameters())[name])
    nats = [
        Runner(m, torch.float32, compile=False, rows=2).backward(b.tokens_BL, b.docs_BL, b.targets_BL, weights)
        for m in (model, bare)
    ]
    assert nats[0] == nats[1]
    for name, p in bare.named_parameters():
        assert torch.equal(p.grad, dict(model.named_parameters())[name].grad), name


def test_two_ahead_stays_inside_the_document_and_the_mask():
    docs = torch.tensor([[1, 1, 1, 2, 2, 3, 0, 0]])
    targets = torch.tensor([[11, -100, 13, 14, 15, 16, -100, -100]])
    weights = torch.arange(8.0)[None]
    target, weight = two_ahead(docs, targets, weights)
    assert target.tolist() == [[-100, 13, -100, 15, -100, -100, -100, -100]]
    assert weight[target >= 0].tolist() == [2.0, 4.0]


def test_micro_batches_add_up_to_the_gradient_of_one_batch():
    b, found = batch(), []
    plan = Plan(None, 1, Language(np.ones(VOCAB, dtype=np.int64)), None, 2, Path(), {}, mtp_loss=0.5)
    for rows in (2, 1):
        model = decoder()
        runner = Runner(model, torch.float32, False, rows, mtp_loss=0.5)
        nats, _, norm = step_gradients(runner, plan, b, clip=0.0)
        found.append((nats, norm, runner.report()["mtp_nats"], gradients(model)))
    for one, two in zip(found[0][:3], found[1][:3], strict=True):
        assert one == pytest.approx(two, rel=1e-5)
    for name, grad in found[0][3].items():
        torch.testing.assert_close(grad, found[1][3][name], rtol=1e-4, atol=1e-5)


def test_weights_that_are_functions_leave_the_head_out_and_the_optimiser_goes_on():
    b, model = batch(), decoder()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith("mtp."))  # what `train` does for a plan without `mtp_loss`
    optimizer = Optimizer(model, dict.fromkeys(("lr_matrix", "lr_embed", "lr_head", "lr_other"), 0.01), 0.1)
    runner = Runner(model, torch.float32, False, 2)
    runner.backward(b.tokens_BL, b.docs_BL, b.targets_BL, lambda logp: logp.exp())
    optimizer.step(1.0)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("mtp."), name

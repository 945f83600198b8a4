"""Our losses and gradients equal those of TRL's own functions, called on the same log-probabilities.

TRL's losses are methods of its trainers. They are called here unbound, on a bare namespace with the attributes they
read, and with the model's forward pass replaced by given log-probabilities or logits; everything they compute from
there is theirs. What TRL 1.16 does not have is compared elsewhere: SimPER, GROUPER and both forms of AGAPO are absent
from it, so SimPER is evaluated directly here, in plain Python from its definition, and the others in test_weights.py.

Known differences, each shown below: TRL's RLOO clips a sequence ratio, which on policy has our gradient but not our
value; TRL's ORPO averages its likelihood term over the tokens of all chosen answers, ours over answers, which agree
when these are equally long.
"""

import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dokja.train.objectives.policy import POLICY
from dokja.train.objectives.preference import PREFERENCE, simper

pytest.importorskip("trl")

from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer


def padded(x_T, s, rows):
    """[T] -> ([B, L], mask [B, L]) with one sequence a row, zeros behind it."""
    parts = [x_T[s.sequence_T == i] for i in rows]
    width = max(len(p) for p in parts)
    mask = torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in parts])
    return torch.stack([torch.nn.functional.pad(p, (0, width - len(p))) for p in parts]), mask


def itself(x, **_):
    return x


def one_process(**more):
    """An accelerator of one process."""
    return SimpleNamespace(
        num_processes=1, device=torch.device("cpu"), sync_gradients=True,
        gather=itself, gather_for_metrics=itself, reduce=lambda x, reduction: x, **more,
    )  # fmt: skip


def trainer(**attributes):
    """What every trainer's loss reads, with the options that change nothing."""
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=one_process(),
        aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **attributes,
    )


def compare(name, theirs, drawn, c, s=None):
    """theirs: a function of logp_T. Loss and gradient by log-probability must agree to rounding."""
    s = s or drawn.s
    ours = {**POLICY, **PREFERENCE}[name]
    found = []
    for formula in (lambda x: ours(x, s, c), theirs):
        leaf_T = drawn.logp_T().detach()[: len(s.sequence_T)].requires_grad_()
        loss = formula(leaf_T)
        found.append((loss.detach(), torch.autograd.grad(loss, leaf_T)[0]))
    assert found[0][1].abs().max() > 1e-3
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)


# --- policy objectives -----------------------------------------------------------------------------------------------


def trl_grpo(logp_T, s, c, loss_type, level="token", high=None):
    logps, mask = padded(logp_T, s, range(s.sequences))
    self = trainer(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        beta=c.kl_beta,
        loss_type=loss_type,
        epsilon_low=c.clip_low,
        epsilon_high=c.clip_high if high is None else high,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=c.max_tokens,
        _entropy_bonus_enabled=False,
    )
    prompt = torch.zeros(s.sequences, 1, dtype=torch.int64)
    inputs = {
        "prompt_ids": prompt, "prompt_mask": prompt + 1,
        "completion_ids": torch.zeros_like(mask), "completion_mask": mask,
        "advantages": s.advantage_S,
        "old_per_token_logps": padded(s.old_T, s, range(s.sequences))[0],
        "ref_per_token_logps": padded(s.ref_T, s, range(s.sequences))[0],
        "num_items_in_batch": torch.tensor(s.tokens),
    }  # fmt: skip
    return GRPOTrainer._compute_loss(self, None, inputs)


@pytest.mark.parametrize("kl_beta", [0.0, 0.07])
def test_grpo_is_trls(kl_beta, drawn, c) -> None:
    c.kl_beta = kl_beta
    compare("grpo", lambda x: trl_grpo(x, drawn.s, c, "grpo"), drawn, c)


@pytest.mark.parametrize("name", ["dr_grpo", "dapo"])
def test_other_clipped_token_losses_are_trls(name, drawn, c) -> None:
    c.kl_beta = 0.0
    compare(name, lambda x: trl_grpo(x, drawn.s, c, name), drawn, c)


def test_cispo_is_trls_whose_cap_is_absolute(drawn, c) -> None:
    c.kl_beta = 0.0
    compare("cispo", lambda x: trl_grpo(x, drawn.s, c, "cispo", high=1 + c.clip_high), drawn, c)


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_gspo_is_trls_grpo_with_sequence_level_ratios(clip, drawn, c) -> None:
    c.kl_beta, c.clip_low, c.clip_high = 0.0, clip, clip
    compare("gspo", lambda x: trl_grpo(x, drawn.s, c, "grpo", level="sequence"), drawn, c)


def test_on_policy_rloo_has_the_gradient_of_trls(drawn, c) -> None:
    s = drawn.s
    leaf_T = drawn.logp_T().detach().requires_grad_()
    logps, mask = padded(leaf_T, s, range(s.sequences))
    self = trainer(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
        epsilon_low=c.clip_low,
        epsilon_high=c.clip_high,
    )
    prompt = torch.zeros(s.sequences, 1, dtype=torch.int64)
    inputs = {
        "prompt_ids": prompt, "prompt_mask": prompt + 1,
        "completion_ids": torch.zeros_like(mask), "completion_mask": mask,
        "advantages": s.advantage_S, "old_logps": (logps * mask).sum(1).detach(),
    }  # fmt: skip
    (theirs,) = torch.autograd.grad(RLOOTrainer._compute_loss(self, None, inputs), leaf_T)
    (ours,) = torch.autograd.grad(POLICY["rloo"](leaf_T, s, c), leaf_T)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


# --- preference objectives -------------------------------------------------------------------------------------------


def head_outputs(logp):
    """What TRL's fused head returns beside the log-probabilities; it only feeds metrics."""
    zeros = torch.zeros_like(logp).detach()
    return SimpleNamespace(log_probs=logp, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def with_prompt(mask):
    """A completion mask with one prompt token in front, as the trainers shift by one."""
    return torch.nn.functional.pad(mask, (1, 0))


def trl_dpo(logp_T, s, c, loss_type):
    rows = [*s.chosen_P.tolist(), *s.rejected_P.tolist()]
    logps, mask = padded(logp_T, s, rows)
    ref_w, ref_l = padded(s.ref_T, s, rows)[0].sum(1).chunk(2)
    self = trainer(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", beta=c.beta,
        loss_types=[loss_type], loss_weights=[1.0], use_weighting=False,
    )  # fmt: skip
    inputs = {
        "input_ids": torch.zeros_like(with_prompt(mask)), "attention_mask": torch.ones_like(with_prompt(mask)),
        "completion_mask": with_prompt(mask), "ref_chosen_logps": ref_w, "ref_rejected_logps": ref_l,
    }  # fmt: skip
    return DPOTrainer._compute_loss(self, lambda **_: head_outputs(logps), inputs, return_outputs=False)


@pytest.mark.parametrize("name, loss_type", [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_dpo_and_ipo_are_trls(name, loss_type, drawn, c) -> None:
    compare(name, lambda x: trl_dpo(x, drawn.s, c, loss_type), drawn, c)


@pytest.mark.parametrize("lift", [0.0, 0.5, -3.0])  # of the mismatched answers: z0 positive, then cut at zero
def test_kto_is_trls(lift, drawn, c) -> None:
    other_T = drawn.s.mismatched_S[drawn.s.sequence_T]
    s = replace(drawn.s, ref_T=drawn.s.ref_T - lift * other_T, sequences=4)
    judged, estimating = [0, 1, 2, 3], [4, 5]

    def theirs(logp_T):
        logps, mask = padded(logp_T, s, judged)
        delta_KL = padded(logp_T.detach() - s.ref_T, s, estimating)[0].sum(1)
        self = trainer(
            calculate_KL=True, _compute_kl_logps=lambda *_: delta_KL, precompute_ref_logps=True, loss_type="kto",
            beta=c.beta, desirable_weight=c.desirable_weight, undesirable_weight=c.undesirable_weight,
        )  # fmt: skip
        inputs = {
            "input_ids": torch.zeros_like(with_prompt(mask)), "attention_mask": torch.ones_like(with_prompt(mask)),
            "completion_mask": with_prompt(mask), "label": s.desirable_S[judged],
            "ref_logps": padded(s.ref_T, s, judged)[0].sum(1), "ref_KL_logps": torch.zeros(2),
        }  # fmt: skip
        return KTOTrainer._compute_loss(self, lambda **_: head_outputs(logps), inputs, return_outputs=False)

    compare("kto", theirs, drawn, c, s)


def logits_with(logps, vocab=7):
    """Logits [B, 1 + L, vocab] under which token 1 has the given log-probability at each of L positions."""
    rest = torch.log(-torch.expm1(logps)) - math.log(vocab - 1)
    rows = rest.unsqueeze(-1).expand(*rest.shape, vocab).clone()
    rows[..., 1] = logps
    return torch.cat([rows, torch.zeros_like(rows[:, :1])], dim=1)


def unpaired_batch(s, x_T):
    """TRL's batch of chosen and rejected answers behind one prompt token, and its model of given log-probabilities."""
    rows = [*s.chosen_P.tolist(), *s.rejected_P.tolist()]
    logps, mask = padded(x_T, s, rows)
    logps = torch.where(mask.bool(), logps, torch.full_like(logps, -1.0))
    batch = {}
    for side, part in zip(("chosen", "rejected"), mask.chunk(2), strict=True):
        ids = torch.ones_like(with_prompt(part))
        batch[f"{side}_input_ids"] = ids
        batch[f"{side}_attention_mask"] = torch.nn.functional.pad(part, (1, 0), value=1)
        batch[f"{side}_labels"] = torch.where(with_prompt(part).bool(), ids, -100)
    return batch, lambda *_, **__: SimpleNamespace(logits=logits_with(logps))


def pair_trainer(cls, **attributes):
    self = trainer(is_encoder_decoder=False, pad_token_id=0, padding_value=0, **attributes)
    for method in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(cls, method):
            setattr(self, method, getattr(cls, method).__get__(self))
    self.concatenated_inputs, self.get_batch_logps = cls.concatenated_inputs, cls.get_batch_logps
    return self


def test_simpo_is_trls(drawn, c) -> None:
    def theirs(logp_T):
        self = pair_trainer(
            CPOTrainer, loss_type="simpo", cpo_alpha=0.0, alpha=0.0, beta=c.beta, simpo_gamma=c.gamma,
            label_smoothing=0.0,
        )  # fmt: skip
        batch, model = unpaired_batch(drawn.s, logp_T)
        return CPOTrainer.get_batch_loss_metrics(self, model, batch)[0]

    compare("simpo", theirs, drawn, c)


def test_orpo_is_trls_on_chosen_answers_of_one_length(drawn, c) -> None:
    # six answers of 3, 1, 3, 3, 2, 3 tokens; 0, 2 and 5 are chosen
    length = [3, 1, 3, 3, 2, 3]
    s = replace(
        drawn.s, sequence_T=torch.repeat_interleave(torch.arange(6), torch.tensor(length)),
        length_S=torch.tensor(length).double(), chosen_P=torch.tensor([0, 2, 5]), rejected_P=torch.tensor([1, 3, 4]),
    )  # fmt: skip

    def theirs(logp_T):
        self = pair_trainer(ORPOTrainer, beta=c.weight)
        batch, model = unpaired_batch(s, logp_T)
        return ORPOTrainer.get_batch_loss_metrics(self, model, batch)[0]

    compare("orpo", theirs, drawn, c, s)


def test_simper_is_its_definition(drawn, c) -> None:
    """TRL has no SimPER: exp of the mean log-probability, rejected minus chosen, by hand."""
    logp = drawn.logp_T().tolist()

    def inverse_perplexity(i):
        mine = [x for x, q in zip(logp, drawn.s.sequence_T.tolist(), strict=True) if q == i]
        return math.prod(math.exp(x) for x in mine) ** (1 / len(mine))

    pairs = zip(drawn.s.chosen_P.tolist(), drawn.s.rejected_P.tolist(), strict=True)
    expected = [inverse_perplexity(worse) - inverse_perplexity(better) for better, worse in pairs]
    assert simper(drawn.logp_T(), drawn.s, c).item() == pytest.approx(sum(expected) / len(expected), rel=1e-12)

"""What TRL 1.16.0 answers: its functions, its trainer's loss on given log-probabilities, and a trainer that runs."""

from __future__ import annotations

import tempfile
import types
from collections import defaultdict
from typing import Any

import datasets
import tokenizers
import torch
from inputs import LOGP, LOGP_OLD, LOGP_REF, MASK, SCORES, Case, case, gradient, tensor, wave
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import entropy_from_logits, nanstd, selective_log_softmax


def logits() -> Case:
    table = torch.tensor([wave(3, 6, 2.0, 0.1 * k) for k in range(2)])
    index = torch.tensor([[0, 3, 5], [1, 1, 2]])
    inputs = {"logits": table.tolist(), "index": index.tolist()}
    return case(inputs, logp=selective_log_softmax(table, index), entropy=entropy_from_logits(table))


def loss(loss_type: str, **options: Any) -> Case:
    options = {"beta": 0.0, "low": 0.2, "high": 0.2, "delta": None, "unbiased": True, "length": 8, **options}
    old, ref, mask = tensor({"old": LOGP_OLD, "ref": LOGP_REF, "mask": MASK}, "old", "ref", "mask")
    advantages = torch.tensor([1.5, -0.5, -1.2, 0.3, 0.9, -0.9])

    def run(logp: torch.Tensor) -> torch.Tensor:
        trainer = types.SimpleNamespace(
            _get_per_token_logps_and_entropies=lambda *_, **__: (logp, torch.zeros_like(logp), None),
            _metrics={"train": defaultdict(list)},
            _entropy_bonus_enabled=False,
            accelerator=types.SimpleNamespace(num_processes=1, reduce=lambda x, **_: x, gather=lambda x: x),
            args=types.SimpleNamespace(
                delta=options["delta"], use_bias_correction_kl=options["unbiased"], steps_per_generation=1
            ),
            aux_loss_enabled=False,
            beta=options["beta"],
            current_gradient_accumulation_steps=1,
            epsilon_high=options["high"],
            epsilon_low=options["low"],
            importance_sampling_level="token",
            loss_type=loss_type,
            max_completion_length=options["length"],
            model=torch.nn.Module(),
            off_policy_mask_threshold=None,
            top_entropy_quantile=1.0,
            use_vllm=False,
        )
        ids = torch.zeros(6, 5, dtype=torch.long)
        batch = {"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1, "completion_ids": ids}
        batch |= {"completion_mask": mask, "advantages": advantages, "num_items_in_batch": mask.sum()}
        batch |= {"old_per_token_logps": old, "ref_per_token_logps": ref}
        return GRPOTrainer._compute_loss(trainer, None, batch)

    value, grad = gradient(run, torch.tensor(LOGP))
    inputs = {"logp": LOGP, "logp_old": LOGP_OLD, "logp_ref": LOGP_REF, "mask": MASK, "advantages": advantages.tolist()}
    return case({**inputs, **options}, loss=value, gradient=grad)


def advantages(scores: list[float | None], scale: str) -> Case:
    """From a trainer that runs: a two-layer model answers, a reward function gives these scores in order."""
    words = tokenizers.models.WordLevel({"<pad>": 0, "<eos>": 1, "a": 2, "b": 3}, unk_token="a")
    plain = tokenizers.Tokenizer(words)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    text = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4, **shape, pad_token_id=0, eos_token_id=1, bos_token_id=None))
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, report_to=[], max_steps=1, max_completion_length=2,
            num_generations=4, per_device_train_batch_size=len(scores), scale_rewards=scale, save_strategy="no",
        )  # fmt: skip
        data = datasets.Dataset.from_dict({"prompt": ["a", "b"]})
        trainer = GRPOTrainer(model, lambda **_: scores, args, data, processing_class=text)
        trainer.train()
    return case({"scores": scores, "scale": scale}, advantages=list(trainer._logs["advantages"]))


def cases() -> dict[str, Case]:
    scores = [1.0, 0.0, 0.0, 0.5, 2.0, -1.0, 0.25, 0.25]
    return {
        "logits": logits(),
        "group_std": case({"scores": [SCORES[:4]]}, std=nanstd(torch.tensor([SCORES[:4]]), dim=1)),
        "advantages": advantages(scores, "group"),
        "advantages_winner": advantages([1.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1], "group"),
        "advantages_mean": advantages(scores, "none"),
        "advantages_unscorable": advantages([1.0, 0.0, None, 0.5, None, None, None, None], "group"),
        "loss_grpo": loss("grpo"),
        "loss_bnpo": loss("bnpo", high=0.28),
        "loss_dapo": loss("dapo", high=0.28),
        "loss_dr_grpo": loss("dr_grpo"),
        "loss_kl": loss("grpo", beta=0.04, unbiased=False),
        "loss_kl_corrected": loss("grpo", beta=0.04),
        "loss_delta": loss("grpo", delta=3.0),
    }

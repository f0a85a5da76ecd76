"""The same parts on a real pretrained chat model, SmolLM2-135M-Instruct, from the folder in SCORELINE_SMOLLM2."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Model, Run
from scoreline.models.policy import Policy, load_policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Prompt, Request

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("SCORELINE_SMOLLM2", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="SCORELINE_SMOLLM2 names no folder (make real makes one)")
ASKED = Prompt("a", ({"role": "user", "content": "What is 3 + 8? Answer with just the number."},), {})


@pytest.fixture(scope="module")
def actor() -> Policy:
    return load_policy(Model(path=FOLDER, device="cpu"))


def test_the_chat_template_is_the_models(actor: Policy) -> None:
    text = actor.text.tokenizer.decode(list(actor.text.encode(ASKED)))
    assert "<|im_start|>user\nWhat is 3 + 8?" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_greedy_answers_and_log_probabilities_are_those_of_transformers(actor: Policy) -> None:
    ids = actor.text.encode(ASKED)
    [done] = LocalEngine(actor).generate([Request(ids, (0,))], Sampling(max_completion_length=8, temperature=0.0))
    told = torch.tensor([list(ids)])
    out = actor.model.generate(told, attention_mask=torch.ones_like(told), do_sample=False, max_new_tokens=8)
    assert list(done.token_ids) == out[0, len(ids) :].tolist()
    whole = torch.tensor([[*ids, *done.token_ids]])
    with torch.no_grad():
        logits = actor.model(whole).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    expected = logits.gather(1, torch.tensor(done.token_ids)[:, None]).squeeze(1)
    assert torch.allclose(torch.tensor(done.logprobs), expected, atol=1e-3)


def test_two_steps_of_the_recipe_and_plain_transformers_loads_the_result(tmp_path: Path) -> None:
    changes = [f"folder={tmp_path}", f"model.path={FOLDER}", "train.steps=2", "eval.prompts=4", "eval.k=2"]
    folder = train(load(Run, [ROOT / "recipes/laptop/smollm2_sums.toml"], changes))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    saved = folder / "checkpoints/step-000002/hf"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    told = tokenizer.apply_chat_template(list(ASKED.content), add_generation_prompt=True, return_tensors="pt")
    assert model.generate(**told, max_new_tokens=4).shape[1] > told["input_ids"].shape[1]
    assert (folder / "report.html").stat().st_size > 10_000


def test_an_adapter_learns_on_it_and_peft_loads_the_result(tmp_path: Path) -> None:
    from peft import PeftModel

    changes = [f"folder={tmp_path}", f"model.path={FOLDER}", "train.steps=1", "train.prompts_per_step=2"]
    changes += ["eval.prompts=0", "model.lora.rank=4", "train.learning_rate=1e-4", "objective.kl.beta=0.01"]
    folder = train(load(Run, [ROOT / "recipes/laptop/smollm2_sums.toml"], changes)) / "checkpoints/step-000001"
    weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert weights < 16 << 20, "an adapter and its optimiser, not half a gigabyte and twice that"
    base = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    before = base.lm_head.weight.detach().clone(), base.model.layers[0].self_attn.q_proj.weight.detach().clone()
    merged = PeftModel.from_pretrained(base, str(folder / "hf")).merge_and_unload()
    assert torch.equal(merged.lm_head.weight, before[0])
    assert not torch.equal(merged.model.layers[0].self_attn.q_proj.weight, before[1])

"""An adapter: its log-probabilities and gradients are the library's own, its reference the model itself, its memory
that of A and B alone; its folder loads elsewhere, and what does not fit is refused.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from scoreline.errors import ConfigError, ModelError
from scoreline.models import adapters
from scoreline.models.adapters import Lora
from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.loading import load_causal_lm, load_tokenizer
from scoreline.models.policy import Model, Policy, load_policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.collate import collate
from scoreline.types import Batch, Request
from tests import parts

LORA = Lora(rank=4, alpha=8)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    parts.policy().save(tmp_path / "base")
    return tmp_path / "base"


def adapted(base: Path | str, lora: Lora = LORA, *, learned: bool = True) -> Policy:
    """A policy under an adapter; `learned`: B is not zero any more."""
    policy = load_policy(Model(path=str(base), device="cpu", lora=lora))
    if learned:
        shake(policy.weights())
    return policy


def shake(weights: dict[str, torch.nn.Parameter], seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)


def answers(policy: Policy) -> Batch:
    return collate(parts.rollouts(policy, questions=3, answers=4))


@torch.no_grad()
def logps(policy: Policy, batch: Batch) -> torch.Tensor:
    return policy.logprobs(policy.states(batch), batch, temperature=1.0)[0]


def plain_logps(model: Any, batch: Batch) -> torch.Tensor:
    """One answer at a time through a model's own forward."""
    rows = torch.zeros(batch.mask.shape)
    for i in range(len(batch)):
        prompt = batch.prompts[i, -int(batch.prompt_length[i]) :]
        answer = batch.completions[i, : int(batch.length[i])]
        logits = model(input_ids=torch.cat([prompt, answer])[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
        rows[i, : len(answer)] = logits.log_softmax(-1).gather(1, answer[:, None]).squeeze(1)
    return rows


@pytest.mark.parametrize("architecture", ["tiny", "llama", "qwen2", "mistral", "gemma2", "gpt2", "granite"])
@pytest.mark.parametrize("rslora", [False, True])
def test_log_probabilities_and_gradients_are_those_of_the_library(
    architecture: str, rslora: bool, tmp_path: Path
) -> None:
    whole = parts.policy(architecture)
    whole.save(tmp_path / "base")
    policy = adapted(tmp_path / "base", replace(LORA, rslora=rslora))
    assert policy.packs == whole.packs
    batch = answers(policy)
    policy.save(tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(model, str(tmp_path / "adapter"), is_trainable=True).eval()
    slopes = torch.linspace(-1, 1, batch.mask.numel()).view(batch.mask.shape)
    ours, _ = policy.logprobs(policy.states(batch), batch, temperature=1.0)
    expected = plain_logps(theirs, batch)
    assert torch.allclose(ours, expected, atol=1e-5 * float(expected.detach().abs().max()))
    (ours * slopes).sum().backward()
    (expected * slopes).sum().backward()
    there = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    gradients = {f"base_model.model.{name}": weight.grad for name, weight in policy.weights().items()}
    assert gradients.keys() == there.keys()
    largest = max(float(gradient.abs().max()) for gradient in there.values())
    for name, gradient in gradients.items():
        assert gradient is not None
        assert torch.allclose(gradient, there[name], atol=1e-5 * largest), name


def test_a_fresh_adapter_and_its_reference_are_the_model_itself(base: Path) -> None:
    policy = adapted(base, learned=False)
    reference, whole = policy.frozen(), load_policy(Model(path=str(base), device="cpu"))
    batch = answers(policy)
    assert torch.equal(logps(policy, batch), logps(whole, batch))
    shake(policy.weights())
    assert not torch.equal(logps(policy, batch), logps(whole, batch))
    assert torch.equal(logps(reference, batch), logps(whole, batch))
    layers = adapters.adapted_layers(reference.model)
    assert layers
    assert all(layer.disable_adapters for layer in layers.values()), "it computes W x and nothing else"


def test_policy_reference_and_critic_cost_one_model(base: Path) -> None:
    policy = adapted(base, learned=False)
    one = sum(p.numel() for p in parts.policy().model.parameters())
    adapter = sum(p.numel() for p in policy.weights().values())
    critic = make_critic(CriticConfig(), policy)
    models = [policy.model, policy.frozen().model, critic]
    held = {p.data_ptr(): p.numel() for model in models for p in model.parameters()}
    head = sum(p.numel() for p in critic.head.parameters())
    assert sum(held.values()) == one + 3 * adapter + head
    assert adapter < one / 4
    assert sum(p.numel() for p in critic.weights().values()) == adapter + head
    assert not any(p.requires_grad for name, p in policy.model.named_parameters() if ".lora_" not in name)


def test_what_one_adapter_learns_the_others_do_not_see(base: Path) -> None:
    policy = adapted(base, learned=False)
    batch, critic, reference = answers(policy), make_critic(CriticConfig(), policy), policy.frozen()
    torch.nn.init.normal_(critic.head.weight)
    with torch.no_grad():
        before, values = logps(policy, batch), critic(batch, None)
        shake(critic.weights(), seed=1)
        assert torch.equal(logps(policy, batch), before)
        changed = critic(batch, None)
        assert not torch.equal(changed, values)
        shake(policy.weights(), seed=2)
        assert torch.equal(critic(batch, None), changed)
    assert torch.equal(logps(reference, batch), before)


def test_both_losses_reach_their_own_adapter_in_one_backward_pass(base: Path) -> None:
    policy = adapted(base)
    batch, critic = answers(policy), make_critic(CriticConfig(), policy)
    torch.nn.init.normal_(critic.head.weight)
    logp, _ = policy.logprobs(policy.states(batch), batch, temperature=1.0)
    (logp.sum() + critic(batch, None).sum()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in policy.weights().values())
    assert all(p.grad is not None and bool(p.grad.any()) for p in critic.weights().values())


def test_a_critic_with_a_path_has_an_adapter_on_its_own_weights(base: Path, tmp_path: Path) -> None:
    parts.policy(seed=1).save(tmp_path / "other")
    policy = adapted(base)
    critic = make_critic(CriticConfig(path=str(tmp_path / "other")), policy, lora=LORA)
    shared = {p.data_ptr() for p in policy.model.parameters()} & {p.data_ptr() for p in critic.parameters()}
    assert not shared
    assert len(critic.weights()) == len(policy.weights()) + 2


def test_merged_weights_are_those_of_the_library_and_nothing_is_changed(base: Path, tmp_path: Path) -> None:
    for architecture in ("tiny", "gpt2", "qwen2"):
        parts.policy(architecture).save(tmp_path / architecture)
        policy = adapted(tmp_path / architecture)
        before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
        merged = dict(policy.merged_weights())
        policy.save(tmp_path / f"{architecture}-adapter")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / architecture, dtype=torch.float32)
        theirs = PeftModel.from_pretrained(model, str(tmp_path / f"{architecture}-adapter")).merge_and_unload()
        assert merged.keys() == dict(theirs.named_parameters()).keys()
        assert all(torch.equal(merged[name], p) for name, p in theirs.named_parameters())
        assert all(torch.equal(before[name], p) for name, p in policy.model.named_parameters())


def test_a_whole_models_merged_weights_are_its_own() -> None:
    policy = parts.policy()
    merged = dict(policy.merged_weights())
    assert merged.keys() == dict(policy.model.named_parameters()).keys()
    assert all(torch.equal(merged[name], p) for name, p in policy.model.named_parameters())


def test_the_engine_samples_from_the_adapted_policy(base: Path, tmp_path: Path) -> None:
    policy = adapted(base)
    policy.save(tmp_path / "adapter")
    merged = load_policy(Model(path=str(tmp_path / "adapter"), device="cpu"))
    assert not adapters.adapted_layers(merged.model)
    assert all(p.requires_grad for p in merged.model.parameters())
    asked = [Request((5, 6, 7), (0, i)) for i in range(6)]
    done = [LocalEngine(p).generate(asked, Sampling(max_completion_length=8)) for p in (policy, merged)]
    plain = LocalEngine(load_policy(Model(path=str(base), device="cpu"))).generate(
        asked, Sampling(max_completion_length=8)
    )
    assert [c.token_ids for c in done[0]] == [c.token_ids for c in done[1]]
    for one, other in zip(*done, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert done[0] != plain


def test_a_folder_comes_back_as_it_was_and_goes_on(base: Path, tmp_path: Path) -> None:
    policy = adapted(base)
    policy.save(tmp_path / "adapter")
    again = load_policy(Model(path=str(tmp_path / "adapter"), device="cpu", lora=LORA))
    for name, weight in policy.weights().items():
        assert torch.equal(again.weights()[name], weight)
    batch = answers(policy)
    assert torch.equal(logps(again, batch), logps(policy, batch))
    reference = again.frozen()
    shake(again.weights())
    assert torch.equal(logps(reference, batch), logps(policy, batch)), "it begins at the adapter, not beneath it"
    again.save(tmp_path / "next")
    assert json.loads((tmp_path / "next/adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    again.restore(tmp_path / "adapter")
    assert torch.equal(logps(again, batch), logps(policy, batch))


def test_plain_transformers_loads_the_folder(base: Path, tmp_path: Path) -> None:
    policy = adapted(base)
    policy.save(tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float32).eval()
    batch = answers(policy)
    with torch.no_grad():
        assert torch.allclose(plain_logps(model, batch), logps(policy, batch), atol=1e-5)


def test_the_same_adapter_is_the_same_folder(base: Path, tmp_path: Path) -> None:
    policy = adapted(base)
    for name in ("one", "two"):
        policy.save(tmp_path / name)
    for file in (adapters.SETTINGS, adapters.WEIGHTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    said = json.loads((tmp_path / "one" / adapters.SETTINGS).read_text())
    assert said["target_modules"] == sorted(said["target_modules"])


def test_an_adapter_on_the_embedded_model_needs_no_path_of_this_machine(tmp_path: Path) -> None:
    adapted("tiny").save(tmp_path / "adapter")
    said = json.loads((tmp_path / "adapter" / adapters.SETTINGS).read_text())
    assert said["base_model_name_or_path"] == "tiny"
    assert str(Path.home()) not in json.dumps(said)
    load_causal_lm(str(tmp_path / "adapter"))


def test_an_adapter_without_a_tokenizer_has_its_models(base: Path, tmp_path: Path) -> None:
    policy = adapted(base)
    adapters.save_adapter(policy.model, tmp_path / "bare")
    assert load_tokenizer(str(tmp_path / "bare")).get_vocab() == policy.text.tokenizer.get_vocab()


def test_named_layers_and_no_others_have_an_adapter(base: Path) -> None:
    policy = adapted(base, replace(LORA, targets=("q_proj", "layers.0.mlp.up_proj")))
    names = set(adapters.adapted_layers(policy.model))
    layers = policy.model.config.num_hidden_layers
    assert names == {f"model.layers.{i}.self_attn.q_proj" for i in range(layers)} | {"model.layers.0.mlp.up_proj"}


@pytest.mark.parametrize("target", ["q_prj", "lm_head", "embed_tokens"])
def test_a_target_that_cannot_be_is_refused(base: Path, target: str) -> None:
    with pytest.raises(ModelError, match=f"got: +model.lora.targets with '{target}'\n.*q_proj"):
        adapted(base, replace(LORA, targets=("k_proj", target)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dropout": 0.1}, r"log pi and log pi_old of one answer must differ by what was learned"),
        ({"rank": 0}, r"model\.lora\.rank is too small"),
        ({"alpha": 0}, r"model\.lora\.alpha is too small"),
        ({"targets": ()}, r"names no layer"),
    ],
)
def test_values_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Lora(**wrong)


@pytest.mark.parametrize("other", [{"rank": 8}, {"alpha": 4}, {"targets": ("q_proj",)}, {"rslora": True}])
def test_another_adapter_than_the_recipes_is_refused(base: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    adapted(base).save(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"not the one that \[model\.lora\] describes[\s\S]*model\.lora='none'"):
        adapted(tmp_path / "adapter", replace(LORA, **other))


def test_random_weights_have_no_adapter() -> None:
    with pytest.raises(ModelError, match="random weights cannot be loaded again"):
        adapted("tiny:init")


def test_pickled_weights_are_not_read(base: Path, tmp_path: Path) -> None:
    adapted(base).save(tmp_path / "adapter")
    (tmp_path / "adapter" / adapters.WEIGHTS).rename(tmp_path / "adapter" / "adapter_model.bin")
    for lora in (None, LORA):
        with pytest.raises(ModelError, match=r"pickled files \(\.bin\) are not read"):
            load_policy(Model(path=str(tmp_path / "adapter"), device="cpu", lora=lora))


def test_half_a_file_is_refused(base: Path, tmp_path: Path) -> None:
    adapted(base).save(tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_causal_lm(str(tmp_path / "adapter"))


@pytest.mark.parametrize("named", ["", "/no/such/folder"])
def test_a_base_model_that_is_not_there_is_named(base: Path, tmp_path: Path, named: str) -> None:
    adapted(base).save(tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.SETTINGS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": named}))
    with pytest.raises(ModelError, match=r"adapter[\s\S]*base_model_name_or_path[\s\S]*to do: +write the folder or id"):
        load_causal_lm(str(tmp_path / "adapter"))


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    parts.policy("llama").save(tmp_path / "other")
    adapted(base).save(tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.SETTINGS
    said = json.loads(file.read_text()) | {"base_model_name_or_path": str(tmp_path / "other")}
    file.write_text(json.dumps(said))
    with pytest.raises(ModelError, match="cannot be merged into its base model"):
        load_causal_lm(str(tmp_path / "adapter"))


def test_without_the_package_the_extra_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install 'scoreline\[peft\]'"):
        adapted(base)

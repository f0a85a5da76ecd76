"""TRL's side: `GRPOTrainer.train()` as it stands, with stopwatches around its methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from clock import Stopwatch, now
from datasets import Dataset
from figures import Step
from rewards import share_of_vowels
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from workload import SEED, Setup, Workload

from scoreline.environments.verify import BUILTINS

DETAILS = ("reference", "forward", "backward", "optimizer")


class Rounds(TrainerCallback):
    """Times the trainer's steps from the end of one to the end of the next; `between` runs outside of both."""

    def __init__(self, watch: Stopwatch, sampled: list[Any], between: Callable[[], None]) -> None:
        self.watch, self.sampled, self.between = watch, sampled, between
        self.steps: list[Step] = []
        self.started = self.optimizer_started = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """The first step starts here, with what it costs to get going: it belongs to the warm-up."""
        self._start()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """After the gradient was clipped."""
        self.optimizer_started = now(self.watch.device)

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The weights have moved."""
        self.watch.seconds["optimizer"] += now(self.watch.device) - self.optimizer_started

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the step; let the other side take its own."""
        seconds = now(self.watch.device) - self.started
        prompts, answers = zip(*self.sampled, strict=True)
        self.steps.append(
            Step(
                seconds=seconds,
                tokens=sum(map(len, answers)),
                parts=parts(self.watch.seconds, seconds),
                prompts=tuple(sorted(set(prompts))),
                lengths=tuple(map(len, answers)),
            )
        )
        self.between()
        self._start()

    def _start(self) -> None:
        self.watch.clear()
        self.sampled.clear()
        self.started = now(self.watch.device)


def parts(seconds: Mapping[str, float], whole: float) -> dict[str, float]:
    """Forward and backward passes, clipping and the optimiser are the update, as they are in Scoreline's step."""
    shared = {
        "generation": seconds["generation"],
        "reward": seconds["reward"],
        "update": seconds["training_step"] - seconds["prepare"] + seconds["clip"] + seconds["optimizer"],
    }
    details = {name: seconds[name] for name in DETAILS}
    return {**shared, "rest": whole - sum(shared.values()), **details}


def run(setup: Setup, folder: Path, between: Callable[[], None]) -> list[Step]:
    """All steps of the setup; after each, `between`."""
    watch = Stopwatch(setup.device)
    sampled: list[Any] = []
    rounds = Rounds(watch, sampled, between)
    trainer: Any = GRPOTrainer(
        model=setup.workload.model,
        reward_funcs=reward(setup.workload),
        args=configuration(setup, folder),
        train_dataset=Dataset.from_list(setup.served()),
        callbacks=[rounds],
    )
    trainer.remove_callback(PrinterCallback)
    watched(trainer, watch, sampled)
    trainer.train()
    return rounds.steps


def configuration(setup: Setup, folder: Path) -> GRPOConfig:
    """The same mathematics as `ours.recipe`: mu = 1, one update on all answers, AdamW at a constant rate, no decay."""
    work = setup.workload
    return GRPOConfig(
        output_dir=str(folder),
        use_cpu=setup.device == "cpu",
        seed=SEED,
        bf16=setup.trl == "amp",
        model_init_kwargs={"dtype": "bfloat16" if setup.trl == "bf16" else "float32"},
        gradient_checkpointing=False,
        max_steps=setup.rounds,
        per_device_train_batch_size=work.trl_micro_batch,
        gradient_accumulation_steps=work.rows // work.trl_micro_batch,
        num_generations=work.answers,
        num_iterations=1,
        max_completion_length=work.budget,
        generation_kwargs={"min_new_tokens": work.budget} if work.fixed_length else None,
        temperature=1.0,
        beta=setup.beta,
        loss_type="grpo",
        learning_rate=work.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        shuffle_dataset=False,
        save_strategy="no",
        logging_steps=setup.rounds + 1,
        report_to=[],
        disable_tqdm=True,
    )


def reward(work: Workload) -> Callable[..., Any]:
    """The function behind the workload's name, given the columns that it asks for."""
    function: Callable[..., Any] = BUILTINS.get(work.reward, share_of_vowels)
    wanted = inspect.signature(function).parameters

    def scored(**columns: Any) -> Any:
        return function(**{name: column for name, column in columns.items() if name in wanted})

    return scored


def watched(trainer: Any, watch: Stopwatch, sampled: list[Any]) -> None:
    """Put stopwatches around the trainer's methods, and note what it samples."""
    inner = trainer._generate_single_turn

    def noted(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        answers, logps = inner(prompt_ids, *args, **kwargs)
        sampled.extend(zip(map(tuple, prompt_ids), answers, strict=True))
        return answers, logps

    trainer._generate_single_turn = noted
    watch.around(trainer, "_generate_single_turn", lambda: "generation")
    watch.around(trainer, "_calculate_rewards", lambda: "reward")
    watch.around(trainer, "_prepare_inputs", lambda: "prepare")
    watch.around(trainer, "training_step", lambda: "training_step")
    watch.around(trainer, "_clip_grad_norm", lambda: "clip")
    watch.around(trainer.accelerator, "backward", lambda: "backward")
    watch.around(
        trainer,
        "_get_per_token_logps_and_entropies",
        lambda: "forward" if torch.is_grad_enabled() else "reference",
    )

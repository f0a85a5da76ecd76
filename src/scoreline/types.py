"""The nouns that the levels hand to one another: Prompt, Request, Completion, Step, Reward, Rollout, Batch, Report.

Axes, written once: `n` sequences, `t` completion tokens, `p` prompt tokens, `g` answers of one group, `v` vocabulary.
This module imports no tensor library, so that reward code starts in a plain Python process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Message = dict[str, str]
"""One turn of a conversation: `{"role": "user", "content": "What is 3 + 8?"}`."""

Finish = Literal["stop", "length"]
"""Why an answer ended: the model (or a stop string) ended it, or the token budget did."""

Metrics = dict[str, float]


@dataclass(frozen=True)
class Prompt:
    """A question, as the data set gives it.

    `Prompt("train:17", "3+8=", {"answer": "11"})`. Answers are grouped by `id`, never by text: two rows with the same
    text stay two questions. `columns` are all other columns of the row; reward functions receive them by name.
    """

    id: str
    content: str | tuple[Message, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One answer to sample: the prompt's tokens and the address of its own random stream.

    `stream` is a tuple of integers such as (run seed, step, prompt, answer). The draws depend on it and on nothing
    else, so a request may move to another batch or worker without a change of its random numbers.
    """

    prompt_ids: tuple[int, ...]
    stream: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """What an engine sampled. `token_ids` are the truth; text is made from them and never tokenised again.

    `logprobs[t]` = log pi_sampler(o_t | q, o_<t) in nats at the sampling temperature, before top-p and top-k cut the
    distribution. `version` counts the learner's steps behind the weights that sampled it. Where other weights came in
    between two tokens, `versions` holds those of each token, and `version` is the oldest.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    version: int = 0
    versions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step of an answer: what it says, and the token that ends it, as an index into `Completion.token_ids`."""

    text: str
    end: int


@dataclass(frozen=True)
class Reward:
    """The score of one answer: the weighted `total` (None: no function could score it) and each function's part.

    Under process supervision `steps` holds the weighted reward of each step (None: no function could score that one),
    and `step_parts` what each function gave to each step.
    """

    total: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    steps: tuple[float | None, ...] = ()
    step_parts: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The total plus the mean of the step rewards, whichever there are: one number that does not grow with the
        number of steps, to compare answers by. None when nothing was scored.
        """
        steps = [reward for reward in self.steps if reward is not None]
        known = [part for part in (self.total, sum(steps) / len(steps) if steps else None) if part is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class Rollout:
    """One scored answer. `group` numbers the question inside its step; `steps` are cut only where they are rewarded."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completion: Completion
    text: str
    reward: Reward
    group: int
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Batch:
    """The tensors of one step. Text ends here.

    | column | shape | meaning |
    |---|---|---|
    | prompts | [n, p] int64 | prompt tokens, padded on the left |
    | prompt_length | [n] int64 | tokens of each prompt |
    | completions | [n, t] int64 | answer tokens, padded on the right |
    | length | [n] int64 | tokens of each answer |
    | mask | [n, t] bool | the policy's own tokens: the only ones that carry loss |
    | group | [n] int64 | the question that the row answers |
    | rewards, rewarded | [n, t] float, bool | rewards on the tokens where they were earned, and where those are |
    | truncated | [n] bool | the token budget ended the answer |
    | logp_sampler | [n, t] float | log-probabilities that the engine reported |
    | logp_old | [n, t] float | the learner's own, when the batch was made |
    | logp_ref | [n, t] float | the reference model's |
    | values, value_end | [n, t], [n] float | V(s_t) before each token, and V after the last one |
    | advantages, returns | [n, t] float | what the objective estimated |
    | weights | [n, t] float | the aggregate's weights; the loss is a plain sum under them |
    | logp | [n, t] float | the learner's own, in the last update that used the row, before its step |
    """

    prompts: Tensor
    prompt_length: Tensor
    completions: Tensor
    length: Tensor
    mask: Tensor
    group: Tensor
    rewards: Tensor
    rewarded: Tensor
    truncated: Tensor
    logp_sampler: Tensor
    logp_old: Tensor | None = None
    logp_ref: Tensor | None = None
    values: Tensor | None = None
    value_end: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    weights: Tensor | None = None
    logp: Tensor | None = None

    def __len__(self) -> int:
        return int(self.mask.shape[0])

    def rows(self, index: Tensor | slice) -> Batch:
        """The same columns for some of the rows."""
        picked = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: column[index] for name, column in picked.items() if column is not None})

    def noted(self, index: Tensor, **columns: Tensor | None) -> Batch:
        """The same batch with these columns at some of its rows; what was not there before is zero at the others."""
        given = {name: column for name, column in columns.items() if column is not None}
        before = {name: getattr(self, name) for name in given}
        rooms = {n: c.new_zeros(len(self), *c.shape[1:]) if before[n] is None else before[n] for n, c in given.items()}
        return replace(self, **{name: rooms[name].index_copy(0, index, column) for name, column in given.items()})


@dataclass(frozen=True)
class Report:
    """What the loop yields after each step; everything that watches a run reads this and nothing else."""

    step: int
    metrics: Metrics
    rollouts: Sequence[Rollout]
    batch: Batch
    state: Mapping[str, Any]
    """What a checkpoint must hold besides weights and optimiser: counters, cursor, beta. JSON only."""

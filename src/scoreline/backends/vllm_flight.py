"""Requests in one vLLM, of one caller or of several at a time: what waits takes the place of what has ended.

answer(requests) --waiting--> `rows` of them in flight --a token each, and again--> whole --> its caller
                                  ^ between two tokens: new weights, where some have come in
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, TypeVar

from scoreline.rollout.engine import Sampling
from scoreline.types import Completion, Request

T = TypeVar("T")


class Asked:
    """What one caller waits for: an output of vLLM for each request, in their order."""

    def __init__(self, count: int) -> None:
        self.outputs: list[Any] = [None] * count
        self.missing = count
        self.whole: Future[list[Any]] = Future()

    def note(self, place: int, output: Any) -> None:
        """One of them has ended."""
        self.outputs[place] = output
        self.missing -= 1
        if not self.missing:
            self.whole.set_result(self.outputs)


class Flight:
    """Steps vLLM's engine as long as anybody waits. `between` is called between two tokens.

    With several `callers` a thread of its own steps for all of them, and each may ask while others wait; a single one
    steps by itself. What another thread wants of vLLM it has to `call`.
    """

    def __init__(self, rows: int, callers: int, between: Callable[[], None]) -> None:
        self.rows, self.between = rows, between
        self.engine: Any = None
        self.version = self.entered = 0
        self.waiting: deque[tuple[Asked, int, Sequence[int], Any]] = deque()
        self.flying: dict[str, tuple[Asked, int, str]] = {}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="vllm") if callers > 1 else None

    def call(self, function: Callable[[], T]) -> T:
        """In the thread that steps: vLLM binds cores, and torch its pool of threads, to whoever makes the model."""
        return function() if self.thread is None else self.thread.submit(function).result()

    def renew(self, version: int) -> None:
        """The weights are others from the next token on."""
        self.version = version
        self.engine.set_weight_version(str(version))

    def answer(self, prompts: Sequence[Sequence[int]], told: Sequence[Any]) -> list[Any]:
        """An output of vLLM for each prompt, with its parameters."""
        if not prompts:
            return []
        asked = Asked(len(prompts))
        self.waiting.extend(zip(repeat(asked), range(len(prompts)), prompts, told, strict=False))
        if self.thread is None:
            self._drive()
        else:
            self.thread.submit(self._drive)
        return asked.whole.result()

    def close(self) -> None:
        """End the thread."""
        if self.thread is not None:
            self.thread.shutdown(cancel_futures=True)

    def _drive(self) -> None:
        """Until nobody waits for anything."""
        try:
            while self.waiting or self.flying:
                self.between()
                self._enter()
                for output in self.engine.step():
                    asked, place, _ = self.flying.pop(output.request_id)
                    asked.note(place, output.outputs[0])
        except BaseException as error:
            self._give_up(error)
            raise

    def _enter(self) -> None:
        """Free places are filled. Prompts share their computation with others under the same weights alone."""
        from vllm.inputs import tokens_input

        while self.waiting and len(self.flying) < self.rows:
            asked, place, prompt, told = self.waiting[0]  # and stays there if vLLM refuses it: its caller hears of that
            name, self.entered = str(self.entered), self.entered + 1
            entering = tokens_input(list(prompt), cache_salt=str(self.version))
            self.flying[name] = asked, place, self.engine.add_request(name, entering, told)
            self.waiting.popleft()

    def _give_up(self, error: BaseException) -> None:
        """Nobody gets anything of what was asked."""
        with suppress(Exception):  # the engine may be what broke
            self.engine.abort_request([name for _, _, name in self.flying.values()], internal=True)
        left = {asked for asked, *_ in self.flying.values()}
        self.flying.clear()
        while self.waiting:
            left.add(self.waiting.popleft()[0])
        for asked in left:
            asked.whole.set_exception(error)


def parameters(request: Request, sampling: Sampling, ends: Sequence[int]) -> Any:
    """What vLLM is told of a request: its own seed; what ends an answer is the policy's to say."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=seed(request.stream),
        max_tokens=sampling.max_completion_length,
        logprobs=0,  # the sampled token's alone
        ignore_eos=True,
        stop_token_ids=list(ends),
        stop=list(sampling.stop) or None,
        include_stop_str_in_output=True,
        detokenize=bool(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion(output: Any) -> Completion:
    """An answer of vLLM, with the version of the weights that sampled it, or with those of its tokens."""
    ids = tuple(output.token_ids)
    logps = tuple(step[token].logprob for step, token in zip(output.logprobs, ids, strict=True))
    spans = [repeat(int(span.version), span.end - span.start) for span in output.weight_versions]
    versions = tuple(chain.from_iterable(spans))[: len(ids)]
    mixed = versions if versions[0] != versions[-1] else ()
    return Completion(ids, logps, "stop" if output.finish_reason == "stop" else "length", versions[0], mixed)


def seed(stream: Sequence[int]) -> int:
    """63 bits of a hash of the stream's address."""
    address = ",".join(str(int(part)) for part in stream).encode()
    return int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "little") >> 1

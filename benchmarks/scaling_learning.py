"""What a step takes in the process of the loop and at the learners, and what its weights take on their way.

    loop         control + handle * answers + carry * tokens + pad * places
    learning     for each pass   ask + send * tokens + max over ranks(computing) (+ or, hidden behind it:) exchange
    exchange     micro-batches * (operations * (latency + hops) + bytes (n - 1) / n / bandwidth)
    weights      call + tensors * (join + hops) + bytes / bandwidth * hops

A place is one of the table with a row an answer, as wide as the longest; n are the learners.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scaling_model import Array, Cluster, Rates, Work


@dataclass(frozen=True)
class Phase:
    """The learners are asked for something, in `asked` seconds; each computes, then all exchange in `operations`."""

    asked: float
    computing: Array
    exchanging: float = 0.0
    operations: int = 0


@dataclass(frozen=True)
class Exchange:
    """Among the learners, for a micro-batch: operations, and the bytes that they move."""

    operations: float
    size: float


def controlling(lengths: Array, rates: Rates) -> float:
    """Seconds of the loop's own process between the last answer and the next weights, its calls not counted."""
    answers, tokens = lengths.size, float(lengths.sum())
    return rates.control + rates.handle * answers + rates.carry * tokens + rates.pad * answers * float(lengths.max())


def dealt(lengths: Array, ranks: int, prompt: float) -> Array:
    """Tokens of each rank: whole groups where there are enough, each with its prompt once, else rows; the largest to
    whoever has least.
    """
    sizes = lengths.sum(1) + prompt if len(lengths) >= ranks else (lengths + prompt).ravel()
    loads = [0.0] * ranks
    for size in np.sort(sizes)[::-1]:
        heapq.heapreplace(loads, loads[0] + float(size))
    return np.asarray(loads)


def learning(lengths: Array, work: Work, cluster: Cluster, rates: Rates) -> Iterator[Phase]:
    """The phases of a step: annotating, then one update after the other."""
    if rates.annotate or rates.passes:
        tokens = dealt(lengths, cluster.learners, work.prompt)
        computing = rates.annotate * tokens + rates.passes * cuts(tokens, rates)
        together = Exchange(rates.gathers, rates.gathered)
        yield phase(float(lengths.sum()), tokens, computing, together, cluster, rates)
    for part in np.array_split(lengths, work.updates):
        tokens = dealt(part, cluster.learners, work.prompt)
        computing = rates.update + rates.learn * tokens + rates.turn * cuts(tokens, rates)
        together = Exchange(rates.collectives, rates.exchange)
        yield phase(float(part.sum()), tokens, computing, together, cluster, rates)


def phase(sent: float, tokens: Array, computing: Array, together: Exchange, cluster: Cluster, rates: Rates) -> Phase:
    """Nobody is asked where all is one process; an exchange may be hidden behind computing."""
    asked = 0.0 if cluster.shared else rates.ask + rates.send * sent
    if cluster.learners == 1:
        return Phase(asked, computing)
    slower, sent = computing * (1 + rates.skew), exchanging(tokens, cluster.learners, rates, together)
    if cluster.hidden:
        return Phase(asked, np.maximum(slower, sent))
    return Phase(asked, slower, sent, round(float(cuts(tokens, rates).max()) * together.operations))


def cuts(tokens: Array, rates: Rates) -> Array:
    """Micro-batches of each rank; one without tokens has one too, since all must join in what is exchanged."""
    return np.asarray(np.maximum(np.ceil(tokens / rates.micro), 1.0))


def exchanging(tokens: Array, ranks: int, rates: Rates, together: Exchange) -> float:
    """Seconds in which `ranks` learners gather weights and scatter gradients, as often as the one with most tokens."""
    if ranks == 1:
        return 0.0
    moved = together.size * (ranks - 1) / ranks / bandwidth(ranks, rates)
    each = together.operations * (rates.latency + hops(ranks, rates)) + moved
    return float(cuts(tokens, rates).max()) * each


def hops(ranks: int, rates: Rates) -> float:
    """Seconds around a ring of so many: a hop to each further learner of a node, a leap to each further node."""
    nodes = math.ceil(ranks / rates.node)
    return (ranks - nodes) * rates.hop + (nodes - 1) * rates.leap


def bandwidth(devices: int, rates: Rates) -> float:
    """Bytes a second between devices: those of one node have their own links."""
    return rates.within if devices <= rates.node else rates.between


def publishing(cluster: Cluster, rates: Rates) -> float:
    """Seconds in which the learners put the whole weights together; nothing else goes on there."""
    ranks = cluster.learners
    joined = rates.tensors * (rates.join + hops(ranks, rates)) if ranks > 1 else 0.0
    return rates.call + joined + rates.weights * (ranks - 1) / ranks / bandwidth(ranks, rates)


def delivering(cluster: Cluster, rates: Rates, pieces: int = 64) -> float:
    """Seconds until the weights are with the last worker. Tree: all of it, log2 hops; ring: in pieces, hop by hop."""
    if cluster.shared:
        return 0.0
    whole = rates.weights / bandwidth(cluster.devices, rates)
    if cluster.route == "tree":
        return whole * math.ceil(math.log2(cluster.rollouts + 1))
    return whole * (1 + (cluster.rollouts - 1) / pieces)

"""What speculative decoding and KV compression should gain.

Two sources: the acceptance and the costs that were measured (Leviathan et al., 2023, section 3), or nothing but the
shape of the model and the rates of the machine: the roofline (Williams et al., 2009, "Roofline: An Insightful Visual
Performance Model for Multicore Architectures"), applied to a decoding step as in Pope et al. (2022), "Efficiently
Scaling Transformer Inference", section 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """What a decoding step moves and computes.

    Parameters
    ----------
    weight_bytes : bytes of the weights one step reads (not the embeddings of tokens it is not given)
    kv_bytes_per_token : bytes of one token's keys and values over all layers
    flops_per_token : arithmetic of one token outside attention: two operations a weight
    """

    weight_bytes: float
    kv_bytes_per_token: float
    flops_per_token: float

    @classmethod
    def from_manifest(cls, manifest: Mapping) -> "ModelShape":
        """The shape in a model's manifest.json."""
        return cls(manifest["step_weight_bytes"], manifest["kv_bytes_per_token"], manifest["flops_per_token"])


@dataclass(frozen=True)
class MachineRates:
    """What a machine sustains, as `specpress.experiments.machine` measures it.

    Parameters
    ----------
    weight_gb_s : GB/s at which weights are read, by number of token rows that are multiplied with them
    kv_gb_s : GB/s at which attention reads keys and values, by number of query tokens a sequence
    gflops : GFLOP/s of a large matrix product
    step_overhead_ms : milliseconds of a step that do not depend on the sizes of weights, cache and batch

    Between measured numbers of rows or queries the time a byte takes is interpolated linearly; outside them it is that
    of the nearest.
    """

    weight_gb_s: Mapping[int, float]
    kv_gb_s: Mapping[int, float]
    gflops: float = math.inf
    step_overhead_ms: float = 0.0

    @classmethod
    def from_metrics(cls, metrics: Mapping) -> "MachineRates":
        """The rates in machine.json."""
        names = ("weight_gb_s_by_rows", "kv_gb_s_by_queries")
        by_rows, by_queries = ({int(count): rate for count, rate in metrics[name].items()} for name in names)
        return cls(by_rows, by_queries, metrics["gflops"], metrics["step_overhead_ms"])


def _ms_per_byte(gb_s: Mapping[int, float], count: float) -> float:
    """Milliseconds a byte at `count` rows or queries, interpolated between those measured."""
    counts = sorted(gb_s)
    below = max((c for c in counts if c <= count), default=counts[0])
    above = min((c for c in counts if c >= count), default=counts[-1])
    share = (count - below) / (above - below) if below < above else 0.0
    return 1e-6 * ((1 - share) / gb_s[below] + share / gb_s[above])


def roofline_step_ms(
    model: ModelShape, machine: MachineRates, *, slots: float, batch: int = 1, queries: int = 1
) -> float:
    """Predicted milliseconds of one forward of a decoding step.

    overhead + max(W / w, F B q / f) + B S K / k: the weights (W bytes) are read once for the B sequences of q tokens
    each, unless their arithmetic (F operations a token) takes longer; the keys and values (K bytes a token) of S slots
    are read for every sequence. w and k are the machine's rates at B q rows and at q queries, f its arithmetic.

    Single rates for w and k were not enough: on a CPU weights are read at under half the rate for 40 rows, and keys and
    values at half of it for 5 queries, because arithmetic and memory are not overlapped perfectly.

    Parameters
    ----------
    slots : slots of the cache a sequence
    batch : sequences decoded together
    queries : tokens a sequence in this forward: 1 to decode, gamma + 1 to verify gamma drafted ones
    """
    rows = batch * queries
    weights = model.weight_bytes * _ms_per_byte(machine.weight_gb_s, rows)
    arithmetic = 1e-6 * model.flops_per_token * rows / machine.gflops
    cache = batch * slots * model.kv_bytes_per_token * _ms_per_byte(machine.kv_gb_s, queries)
    return machine.step_overhead_ms + max(weights, arithmetic) + cache

"""The machine's record: every rate is there and positive, for both families. How large they are is not for tests."""

import pytest
import tiny
import torch

from specpress.engine.forward import forward_of
from specpress.experiments import machine
from specpress.files.metrics import SCHEMA
from specpress.theory.roofline import MachineRates


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_record_holds_the_rates_the_roofline_takes(family, monkeypatch):
    monkeypatch.setattr(machine, "_SECONDS", 0)
    monkeypatch.setattr(machine, "_COLD_BYTES", 2**16)
    monkeypatch.setattr(machine, "_SLOTS", 32)
    monkeypatch.setattr(machine, "ALONE", (16, 24))
    config, threads = tiny.FAMILIES[family](layers=3).config, torch.get_num_threads()
    record = machine.measure(
        {"id": "machine"}, config, dtype=torch.float32, device=torch.device("cpu"), threads=threads
    )
    rates = MachineRates.from_metrics(record)
    assert (record["schema"], record["kind"], record["spec"]) == (SCHEMA, "machine", {"id": "machine"})
    assert all(record[name] > 0 for name in ("copy_gb_s", "weight_gb_s", "kv_gb_s", "gflops"))
    assert record["step_overhead_ms"] >= 0
    assert record["environment"]["settings"]["cuda_graphs"] is False  # as in an eager experiment's: one environment
    assert tuple(rates.weight_gb_s) == machine.ROWS
    assert tuple(rates.kv_gb_s) == machine.QUERIES
    assert list(record["kv_gb_s_alone"]) == ["16", "24"]
    assert min(record["kv_gb_s_alone"].values()) > 0


def test_all_rates_come_from_one_round_of_benchmarks(monkeypatch):
    """What stands beside each other in the roofline, weights and caches above all, is measured in the same minute."""
    monkeypatch.setattr(machine, "_COLD_BYTES", 2**16)
    rounds = []
    monkeypatch.setattr(machine, "_in_turn", lambda runs, *args: rounds.append(runs) or dict.fromkeys(runs, 1.0))
    machine._rates(tiny.llama(layers=2).config, torch.float32, torch.device("cpu"), False, "machine")
    (runs,) = rounds
    assert {name for name, _ in runs} == {"copy", "product", "step", "maps", "weights", "caches", "alone"}


def test_parts_of_captured_steps_are_captured_too(monkeypatch):
    """Launched one by one they would take what launching takes: a cache would seem to be read slowly."""
    monkeypatch.setattr(machine, "_COLD_BYTES", 2**16)
    rounds, captured = [], []
    monkeypatch.setattr(machine, "_in_turn", lambda runs, *args: rounds.append(runs) or dict.fromkeys(runs, 1.0))
    monkeypatch.setattr(machine, "CudaGraphs", lambda device: lambda run: captured.append(run) or (lambda: run()))
    monkeypatch.setattr(machine, "use_graphs", lambda model: None)
    machine._rates(tiny.llama(layers=2).config, torch.float32, torch.device("cpu"), True, "machine")
    (runs,) = rounds
    for run in runs.values():
        run()
    assert len(captured) == len([key for key in runs if key[0] in ("maps", "weights", "caches", "alone")]) > 10


def test_a_large_model_is_sampled_by_as_many_layers_as_no_cache_holds(monkeypatch):
    config = tiny.llama(layers=3).config
    layer = sum(m.nbytes for m in forward_of(tiny.llama(layers=1)).linear_maps[:-1])
    for cold, layers in ((0, 1), (layer, 2), (2**30, 3)):
        monkeypatch.setattr(machine, "_COLD_BYTES", cold)
        assert machine._layers_enough(config, torch.float32) == layers


def test_what_is_compared_is_timed_in_turn(monkeypatch):
    """A machine that is slow at first, as one just started on a job, is slow for all: rates keep their order."""
    now, device = [0.0], torch.device("cpu")

    def taking(seconds):
        def run():
            now[0] += seconds * (9.0 if now[0] < 100 else 1.0)

        return run

    monkeypatch.setattr(machine, "clock", lambda device: now[0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(machine, "_SECONDS", 60.0)
    found = machine._in_turn({1: taking(1.0), 2: taking(1.0), 4: taking(2.0)}, device)
    assert found == {1: 1.0, 2: 1.0, 4: 2.0}

"""The order's path beside its peers: one after another, and fifty at once."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Row, median, ratios, run_directory, sync_floor_us
from tests.benchmarks.peers import NOT_MEASURED, PEERS, Driven, Peer, PeerUnavailable, clients, stub

AT_ONCE = 50
Taken = dict[str, dict[str, list[dict[str, float]]]]


def orders(quick: bool, peers: Sequence[Peer] = PEERS) -> list[Row]:
    """Every client in turn, round by round, on one stub."""
    directory = run_directory()
    absent = dict(NOT_MEASURED)
    floors: list[float] = []
    try:
        with (
            stub() as port,
            clients(peers, port, directory, lambda peer, why: absent.update({peer.name: why})) as all_,
        ):
            taken, stub_cpu = _rounds(all_, port, directory, floors, 3 if quick else 9, quick=quick)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    titles = {peer.name: peer.title for peer in peers}
    return [*_judged(taken, floors, stub_cpu), *_peer_rows(taken, titles, absent)]


def _rounds(
    running: dict[str, Driven], port: str, directory: Path, floors: list[float], count: int, *, quick: bool
) -> tuple[Taken, dict[str, float]]:
    alone, together = (150, 800) if quick else (400, 2_000)
    taken: Taken = {name: {"alone": [], "together": []} for name in running}
    stub_cpu: dict[str, float] = {}
    for _ in range(count):
        floors.append(sync_floor_us(directory))
        for name, client in running.items():
            taken[name]["alone"].append(client.ask(do="sequential", count=alone))
            before = _stub_cpu(port)
            taken[name]["together"].append(client.ask(do="together", count=together, at_once=AT_ONCE))
            after = _stub_cpu(port)
            stub_cpu[name] = (after["cpu"] - before["cpu"]) / max(1.0, after["orders"] - before["orders"]) * 1e6
    return taken, stub_cpu


def _stub_cpu(port: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stub/cpu", timeout=10) as answer:
        told: dict[str, float] = json.load(answer)
        return told


def _series(taken: Taken, name: str, kind: str, key: str) -> list[float]:
    return [item[key] for item in taken[name][kind]]


def _judged(taken: Taken, floors: list[float], stub_cpu: dict[str, float]) -> list[Row]:
    """The rows with budgets."""
    if "raw" not in taken or "ours" not in taken:
        raise PeerUnavailable("the baseline or the library itself did not start; see .bench/*.log")
    raw_alone = _series(taken, "raw", "alone", "p50_us")
    raw_cpu, raw_rate = (_series(taken, "raw", "together", key) for key in ("cpu_us", "orders_per_s"))
    rows = []
    for name, suffix, what in (
        ("ours", "", "as it comes: journal and transaction log"),
        ("ours-plain", "-plain", "without the transaction log"),
    ):
        if name not in taken:
            continue
        alone = _series(taken, name, "alone", "p50_us")
        over = median(ours - raw - floor for ours, raw, floor in zip(alone, raw_alone, floors, strict=True))
        rows += [
            Row(
                f"sequential{suffix}",
                f"One order after another, p50, above raw aiohttp and one fdatasync ({what})",
                "p50 of execute_order less those of the raw client and of fdatasync of 512 B appended, per round",
                over,
                100,
                "µs",
                "≤ raw aiohttp + 1 fsync + 100 µs",
                facts={"p50_us": median(alone), "raw_p50_us": median(raw_alone), "fdatasync_us": median(floors)},
            ),
            Row(
                f"together-cpu{suffix}",
                f"50 at once: CPU per order ({what})",
                "CPU of the client process, all threads, over that of the raw client, per round",
                ratios(_series(taken, name, "together", "cpu_us"), raw_cpu),
                1.6,
                "×",
                "≤ 1.6 × raw aiohttp (goal 1.4)",
                goal=1.4,
                facts={"cpu_us": median(_series(taken, name, "together", "cpu_us")), "raw_cpu_us": median(raw_cpu)},
            ),
            Row(
                f"together-rate{suffix}",
                f"50 at once: orders a second ({what})",
                "orders/s over those of the raw client, per round",
                ratios(_series(taken, name, "together", "orders_per_s"), raw_rate),
                0.65,
                "×",
                "≥ 0.65 × raw aiohttp",
                at_least=True,
                facts={
                    "orders_per_s": median(_series(taken, name, "together", "orders_per_s")),
                    "raw_orders_per_s": median(raw_rate),
                    "stub_cpu_us_per_order": {key: round(value, 1) for key, value in stub_cpu.items()},
                },
                note=_stub_note(stub_cpu, raw_rate),
            ),
        ]
    for peer in ("ccxt", "nautilus"):
        if peer in taken:
            rate = ratios(
                _series(taken, "ours", "together", "orders_per_s"), _series(taken, peer, "together", "orders_per_s")
            )
            rows.append(
                Row(
                    f"rate-above-{peer}",
                    f"50 at once: orders a second beside {peer}",
                    f"orders/s of this library as it comes over those of {peer}, per round",
                    rate,
                    1,
                    "×",
                    f"above {peer}",
                    at_least=True,
                )
            )
    return rows


def _stub_note(stub_cpu: dict[str, float], raw_rate: list[float]) -> str:
    share = stub_cpu.get("raw", 0.0) * median(raw_rate) / 1e6
    if share < 0.8:
        return f"the stub is busy for {share:.0%} of the raw client's time: it is not the bottleneck"
    return f"the stub is busy for {share:.0%} of the raw client's time: trust CPU per order"


def _peer_rows(taken: Taken, titles: dict[str, str], absent: dict[str, str]) -> list[Row]:
    """Beside each other, without a verdict."""
    rows = []
    for name in taken:
        figures: dict[str, Any] = {
            "p50_us": median(_series(taken, name, "alone", "p50_us")),
            "p50_ratio": ratios(_series(taken, name, "alone", "p50_us"), _series(taken, "raw", "alone", "p50_us")),
            "p99_us": median(_series(taken, name, "alone", "p99_us")),
            "cpu_alone_us": median(_series(taken, name, "alone", "cpu_us")),
            "orders_per_s": median(_series(taken, name, "together", "orders_per_s")),
            "rate_ratio": ratios(
                _series(taken, name, "together", "orders_per_s"), _series(taken, "raw", "together", "orders_per_s")
            ),
            "cpu_us": median(_series(taken, name, "together", "cpu_us")),
            "cpu_ratio": ratios(
                _series(taken, name, "together", "cpu_us"), _series(taken, "raw", "together", "cpu_us")
            ),
            "rss_mib": taken[name]["together"][-1]["rss_mib"],
        }
        rows.append(
            Row(f"peer-{name}", titles.get(name, name), "raw aiohttp in the same round", figures["cpu_ratio"], None,
                "× CPU", "", facts=figures)
        )  # fmt: skip
    rows += [
        Row(f"peer-{name}", name, "raw aiohttp in the same round", None, None, "× CPU", "", note=why)
        for name, why in absent.items()
    ]
    return rows

"""The table that people read."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from . import data
from .judge import Round, Verdict
from .scene import PEER, SURVIVOR, VICTIM, Plan, Seen


def table(plan: Plan, seen: Seen, v: Verdict) -> str:
    nodes = ", ".join(f"{name} with {len(n)} SuperNodes" for name, n in data.NODES.items())
    lines = [
        f"Flower {version('flwr')} unchanged, two federations ({nodes}), over three fedmesh peers. Seed {plan.seed}.",
        f"In the middle of round {plan.kill} {VICTIM}'s SuperLink and ServerApp are killed for good, and the peer {PEER}.",
        "",
    ]
    alone = [f"{name} alone" for name in data.NODES]
    rows = [["round", "updates", "model at peers", *(f"at {n}" for n in data.NODES), "ulps", "seconds", "over the mesh", *alone]]
    rows += [row(r) for r in v.rounds]
    lines += aligned(rows)
    lines += [
        "",
        "updates: whose were counted, and with how many examples. ulps: how far the model is from the mean of all SuperNodes' models, weighted by",
        "examples. The last three columns are accuracies on MNIST's test images; alone is stock Flower, the same nodes and seeds, without the mesh.",
        "",
        f"Killed: {killed(seen)}.",
        f"A round took {v.calm:.1f} s before that, at the median; the round of the kills {v.pause:.1f} s. From then on each lasts for the session's "
        f"round timeout, {seen.round_timeout:.0f} s, since {SURVIVOR} is alone.",
    ]
    return "\n".join(lines) + "\n"


def row(r: Round) -> list[str]:
    updates = " + ".join(f"{name} {n}" for name, n in sorted(r.updates.items()))
    at = [r.federations.get(name, "")[:8] or "killed" for name in data.NODES]
    alone = [f"{r.alone[name]:.4f}" if name in r.alone else "" for name in data.NODES]
    return [str(r.round), updates, each(r.peers.values()), *at, f"{r.ulps:.2f}", f"{r.seconds:.1f}", f"{r.accuracy:.4f}", *alone]


def each(digests: Iterable[str]) -> str:
    short = [d[:8] for d in digests]
    return f"{short[0]} at all {len(short)}" if len(set(short)) == 1 else " ".join(short)


def killed(seen: Seen) -> str:
    """The processes killed with the SuperLink, by their commands."""
    known = ("flwr-serverapp", "flower-superexec")
    below = [name for name in known if any(name in command for command in seen.killed)]
    return ", ".join(["flower-superlink", *below, "fedmesh node"])


def aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows]

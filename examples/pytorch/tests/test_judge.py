"""The judge must be able to find fault."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, List, Optional, Tuple

import fedmesh
import pytest

from federation.judge import Death, View, judge

Case = Tuple[List[fedmesh.Receipt], List[View], Optional[Death]]
ROUNDS, COMBINERS = 4, ("c1", "c2")


def case() -> Case:
    """Two combiners, four rounds, three peers, one of them killed: all well."""
    receipts = [
        fedmesh.Receipt("s", c, f"id{n}", f"d-{c}-{n}", f"m{n - 1}", n - 1, ["a", "b"], False) for n in range(1, ROUNDS + 1) for c in COMBINERS
    ]
    rounds = []
    for n in range(1, ROUNDS + 1):
        updates = [fedmesh.Update(r.combiner, r.id, r.digest, 10, r.base, r.round, r.copies) for r in receipts if r.round == n - 1]
        rounds.append(fedmesh.Round(n, "final", f"m{n}", "", updates, 20, {}, {}, [], [], len(updates)))
    return receipts, [View(peer, rounds, f"m{ROUNDS}", 0.985) for peer in "abc"], Death("b", 2, 1, 4)


def judged(c: Case, kill: bool = True) -> List[str]:
    receipts, views, death = c
    return judge(receipts, views, len(COMBINERS), 0.98, kill, death)


def with_view(c: Case, **changes: Any) -> Case:
    """The second peer tells something else."""
    return c[0], [c[1][0], dataclasses.replace(c[1][1], **changes), c[1][2]], c[2]


def with_round(c: Case, **changes: Any) -> Case:
    """The second peer has something else in its third round."""
    rounds = list(c[1][1].rounds)
    rounds[2] = dataclasses.replace(rounds[2], **changes)
    return with_view(c, rounds=rounds)


def doubled(c: Case) -> Case:
    rounds = list(c[1][1].rounds)
    rounds[3] = dataclasses.replace(rounds[3], updates=[*rounds[3].updates, rounds[2].updates[0]])
    return with_view(c, rounds=rounds)


def altered(c: Case) -> Case:
    first, second = c[1][1].rounds[2].updates
    return with_round(c, updates=[dataclasses.replace(first, digest="other"), second])


FAULTS: List[Tuple[str, Callable[[Case], Case], str]] = [
    ("accuracy", lambda c: with_view(c, accuracy=0.9799), "peer b: accuracy 0.9799, less than 0.98"),
    ("no number", lambda c: with_view(c, accuracy=float("nan")), "peer b: accuracy nan"),
    ("digest", lambda c: with_view(c, digest="other"), "give different models: a m4, b other, c m4"),
    ("a round's digest", lambda c: with_round(c, model="other"), "different models of round 3: a m3, b other, c m3"),
    ("a round is not final", lambda c: with_round(c, state="settled"), "peer b: not final: round 3"),
    ("a round is missing", lambda c: with_view(c, rounds=c[1][1].rounds[:3]), "different rounds: a 4, b 3, c 4"),
    ("lost", lambda c: with_round(c, updates=c[1][1].rounds[2].updates[1:]), "peer b: the update id3 of c1 was acknowledged and is counted 0 times"),
    ("doubled", doubled, "peer b: the update id3 of c1 was acknowledged and is counted 2 times"),
    ("altered", altered, "peer b: the update id3 of c1 was acknowledged and is counted 0 times"),
    ("nobody's", lambda c: (c[0][1:], c[1], c[2]), "the update id1 of c1 is counted, and nobody was told so"),
    ("no kill", lambda c: (c[0], c[1], None), "no peer was killed"),
    ("killed between rounds", lambda c: (c[0], c[1], Death("b", 2, 2, 4)), "2 of 2 updates were in, not in the middle of a round"),
    ("did not return", lambda c: (c[0], c[1], Death("b", 2, 1)), "peer b was killed and did not return"),
    ("nothing", lambda c: ([], [], c[2]), "0 peers and 0 updates are nothing to judge"),
]


def test_all_is_well() -> None:
    assert judged(case()) == []
    receipts, views, _ = case()
    assert judged((receipts, views, None), kill=False) == []
    assert judged(([*receipts, receipts[0]], views, case()[2])) == [], "a receipt that was given twice is one update"


@pytest.mark.parametrize("change,said", [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_finds_fault(change: Callable[[Case], Case], said: str) -> None:
    wrong = judged(change(case()))
    assert any(said in w for w in wrong), wrong

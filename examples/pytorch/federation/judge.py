"""Whether all is as it must be, from what combiners and peers told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import List, Optional, Sequence

import fedmesh


@dataclass(frozen=True)
class Death:
    """A peer that was killed."""

    peer: str
    round: int  # that was open then
    acknowledged: int  # updates of this round that had their receipts
    returned: Optional[int] = None  # round that was open when it was back


@dataclass(frozen=True)
class View:
    """What one peer tells at the end."""

    peer: str
    rounds: Sequence[fedmesh.Round]
    digest: str  # of the model that it gives
    accuracy: float  # of that model


def judge(
    receipts: Sequence[fedmesh.Receipt], views: Sequence[View], combiners: int, wanted: float, kill: bool, death: Optional[Death]
) -> List[str]:
    """What is wrong; nothing when all is well."""
    wrong = [] if views and receipts else [f"{len(views)} peers and {len(receipts)} updates are nothing to judge"]
    for v in views:
        if not v.accuracy >= wanted:
            wrong.append(f"peer {v.peer}: accuracy {v.accuracy:.4f}, less than {wanted}")
        wrong += _counted(receipts, v)
    wrong += _agreed(views)
    if kill:
        wrong += _died(death, combiners)
    return wrong


def _counted(receipts: Sequence[fedmesh.Receipt], view: View) -> List[str]:
    """Each acknowledged update once, as it was acknowledged, and no other."""
    counted = Counter((u.combiner, u.id, u.digest) for r in view.rounds for u in r.updates)
    promised = {(r.combiner, r.id, r.digest) for r in receipts}
    wrong = [
        f"peer {view.peer}: the update {key[1]} of {key[0]} was acknowledged and is counted {counted[key]} times"
        for key in sorted(promised)
        if counted[key] != 1
    ]
    wrong += [
        f"peer {view.peer}: the update {key[1]} of {key[0]} is counted, and nobody was told so" for key in sorted(counted) if key not in promised
    ]
    return wrong


def _agreed(views: Sequence[View]) -> List[str]:
    wrong = []
    if len({v.digest for v in views}) > 1:
        wrong.append("the peers give different models: " + ", ".join(f"{v.peer} {v.digest[:8]}" for v in views))
    if len({tuple(r.round for r in v.rounds) for v in views}) > 1:
        wrong.append("the peers list different rounds: " + ", ".join(f"{v.peer} {len(v.rounds)}" for v in views))
    for rounds in zip(*(v.rounds for v in views)):
        if len({r.model for r in rounds}) > 1:
            said = ", ".join(f"{v.peer} {r.model[:8]}" for v, r in zip(views, rounds))
            wrong.append(f"the peers have different models of round {rounds[0].round}: {said}")
    for v in views:
        late = [str(r.round) for r in v.rounds if r.state != "final"]
        if late:
            wrong.append(f"peer {v.peer}: not final: round {', '.join(late)}")
    return wrong


def _died(death: Optional[Death], combiners: int) -> List[str]:
    if death is None:
        return ["no peer was killed"]
    wrong = []
    if not 0 < death.acknowledged < combiners:
        wrong.append(f"peer {death.peer} was killed when {death.acknowledged} of {combiners} updates were in, not in the middle of a round")
    if death.returned is None:
        wrong.append(f"peer {death.peer} was killed and did not return")
    return wrong

"""What to do when the mesh says no."""

from __future__ import annotations

import fedmesh


class MeshRefused(RuntimeError):
    """The mesh does not let this ServerApp in; the text says what to do. The cause is the peer's answer, where there was one."""


_ADVICE: tuple[tuple[type[fedmesh.FedmeshError], str], ...] = (
    (fedmesh.Unauthorized, "give Mesh(token=…) a token that the peers know"),
    (
        fedmesh.Forbidden,
        "give Mesh(token=…) a token with the role combiner for this session and combiner; only an operator's may open a session "
        "(fedmesh session create)",
    ),
    (fedmesh.UnknownSession, "check the session's name and the peers, or give open={…} so that it is opened"),
    (fedmesh.SessionClosed, "the session is over: name another one"),
    (fedmesh.SessionConflict, "another session has this name: name another one, or give the same open={…} and initial arrays"),
    (fedmesh.WrongLayout, "the model has other arrays than the session's: start both from the same model, or name another session"),
    (fedmesh.InvalidValue, "the model has values that are not numbers or too large: lower the learning rate, or look at the nodes' data"),
    (fedmesh.TooLarge, "the model is larger than the peers take: raise --max-body of fedmesh node"),
    (fedmesh.TimedOut, "check the peers' addresses, and that they run"),
    (fedmesh.InvalidArgument, "mend the argument"),
)


def advice(e: fedmesh.FedmeshError) -> str:
    """One line for an error: what is wrong, and what to do."""
    text = str(e)
    if isinstance(e, fedmesh.TimedOut) and e.__cause__ is not None:
        text += f" ({e.__cause__})" if str(e.__cause__) not in text else ""
    for kind, do in _ADVICE:
        if isinstance(e, kind):
            return f"{text}: {do}"
    return text

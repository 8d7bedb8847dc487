"""What topologies are called elsewhere, for hints: a short name is told the long one."""

from __future__ import annotations

from collections.abc import Collection

from .argument_checks import did_you_mean, shown

# Abbreviations of papers and names of other libraries.
ALSO_CALLED = {
    "attn": "augmented_tree",
    "bt": "block_term",
    "btd": "block_term",
    "canonical_polyadic": "cp",
    "candecomp": "cp",
    "cpd": "cp",
    "fft": "butterfly",
    "hierarchical_tucker": "tree",
    "ht": "tree",
    "kron": "kronecker",
    "kp": "kronecker",
    "lora": "low_rank",
    "lowrank": "low_rank",
    "matrix_product_operator": "tensor_train",
    "matrix_product_state": "mps",
    "mera2d": "mera_2d",
    "mpo": "tensor_train",
    "parafac": "cp",
    "mps_state": "mps",
    "pepo": "peps",
    "svd": "low_rank",
    "tensor_chain": "tensor_ring",
    "tr": "tensor_ring",
    "tt": "tensor_train",
    "tt_matrix": "tensor_train",
    "ttn": "tree",
}


def hint(name: str, known: Collection[str]) -> str:
    """Which topology a name may stand for, in words; all that there are, where none is near.

    Arguments:
        name: as a user wrote it.
        known: the topologies there are.

    >>> hint("tt", ["tensor_train", "tree"])
    " (did you mean 'tensor_train'?)"
    >>> hint("tensortrain", ["tensor_train", "tree"])
    " (did you mean 'tensor_train'?)"
    >>> hint("x", ["tensor_train", "tree"])
    '; there are: tensor_train, tree'
    """
    plain = name.lower().replace("-", "_")
    other = ALSO_CALLED.get(plain)
    if other in known:
        return f" (did you mean {other!r}?)"
    near = did_you_mean(plain, known)
    return near or f"; there are: {', '.join(sorted(map(str, known)))}"


def missing(name: str, known: Collection[str]) -> str:
    """The message where a topology is asked for that there is not."""
    return f"tnlayer.topologies has no {shown(name)}{hint(name, known)}"


def as_written(name: str) -> str:
    """How a topology is passed that a user gave as text.

    >>> as_written("low_rank"), as_written("tt"), as_written("any text")
    ('tn.topologies.low_rank', 'tn.topologies.tensor_train', 'tn.topologies.low_rank')
    >>> as_written("my_networks:two_sides")
    'two_sides, the function itself, after `from my_networks import two_sides`'
    """
    # As the command line names functions of the user's.
    module, colon, function = name.partition("(")[0].strip().partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), function)):
        return f"{function}, the function itself, after `from {module} import {function}`"
    plain = name.partition("(")[0].strip().lower().replace("-", "_")
    found = ALSO_CALLED.get(plain, plain)
    return f"tn.topologies.{found if found.isidentifier() else 'low_rank'}"

"""The initialisation near the identity, as a value that a tensor's ``init`` takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import SpecError

# The registered name that stands for the default.
IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class NearIdentity:
    """What :func:`near_identity` gives.

    Arguments:
        noise: standard deviation of what is added to each entry.
    """

    noise: float = 0.01

    def __repr__(self) -> str:
        return f"near_identity(noise={self.noise})"


def near_identity(noise: float = 0.01) -> NearIdentity:
    """An ``init`` that lets signals pass unchanged, but for noise; ``"identity"`` is the default.

    Products of hundreds of random tensors are far from isometric, and hard to train. A tensor near
    the identity connects its legs in pairs, a leg towards the inputs with one towards the output:

    - on a chain the left bond with the right one; the first and the last core have index 0 there;
    - an input leg with the output leg of the same tensor, so that a square train starts as y = x;
    - legs of a product port, and output legs of a network of product ports only, are constant: each
      core of a matrix product state is the identity for every feature. The state is multiplied by
      the sum of the features at each site. Over unit vectors in all directions its mean square is
      1; features that are all positive, as (cos, sin) of angles up to pi/2, grow by up to 1.41 a
      site: divide them by their sum, ``x / x.sum(-1, keepdim=True)``;
    - legs that cannot be paired one by one (of a tree, say) are one matrix, towards the inputs
      against towards the output, with ones on its diagonal;
    - with ``isometry=`` the same with the legs that it names as one side, made isometric again
      after the noise.

    Entries are not scaled to a variance. Legs that close to a ring give a factor, as a trace does.

    Arguments:
        noise: standard deviation of what is added to each entry; 0: the identity itself.

    Raises:
        SpecError: noise is no finite number of 0 or more.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.tensor_train((4, 4), (4, 4), rank=3, init=tn.near_identity(noise=0))
    >>> bool((tn.Layer(net).to_dense() == torch.eye(16)).all())
    True
    """
    if isinstance(noise, bool) or not isinstance(noise, int | float):
        msg = f"near_identity: noise={noise!r}, expected a number"
        raise SpecError(msg)
    if not (math.isfinite(noise) and noise >= 0):
        msg = f"near_identity: noise={noise}, expected a finite standard deviation of 0 or more"
        raise SpecError(msg)
    return NearIdentity(float(noise))

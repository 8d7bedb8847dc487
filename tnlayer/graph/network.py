"""The builder: describe a network leg by leg or wire by wire, then freeze it into a Graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import SpecError
from ..support.html import block, heading, lines
from ..support.wording import counted
from .argument_checks import (
    as_array_value,
    check_dtype_name,
    check_init,
    check_mapping,
    check_name,
    check_tensor_name,
    check_whole,
    listed,
    shown,
    split_legs,
    suggest,
    take_bounded,
)
from .bridged import Bridged
from .compose import composed, renamed
from .describe import describe, graph_html, headline
from .drawing.drawable import Drawable
from .drawing.drawing import Missing
from .graph import MAX_NODES, Graph, Port, TensorNode
from .leg_table import LegTable
from .near_identity import NearIdentity
from .sum_of_networks import SumOfNetworks
from .unfinished import as_far_as_it_goes
from .validate import ends_of, resolve_shares, validate

Legs = str | Sequence[str]


class Network(Bridged, Drawable):
    """A tensor network that is being described; mutable, so not hashable.

    Arguments:
        label: free text for people; no part of the network's content.

    >>> net = Network("two cores")
    >>> net.input(i1=2, i2=3)
    ('i1', 'i2')
    >>> net.output(j1=4, j2=5)
    >>> net.bond(a=6)
    >>> net.tensor("A", "i1 j1 a")
    ()
    >>> net.tensor("B", "a i2 j2")
    ()
    >>> net.in_features, net.out_features, net.parameter_count, net.stored_count
    (6, 20, 138, 138)
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, label: str = "") -> None:
        if not isinstance(label, str):
            msg = f"the label of a network must be a string, got {shown(label)}"
            raise SpecError(msg)
        self.label = label
        self._legs = LegTable()
        self._inputs: dict[str, tuple[str, ...]] = {}
        self._options: dict[str, Port] = {}
        self._output: tuple[str, ...] | None = None
        self._tensors: dict[str, TensorNode] = {}
        self._summed: set[str] = set()
        self._fixed: dict[str, int] = {}

    # -- ports -------------------------------------------------------------------------------

    def input(
        self,
        name_or_dims: str | Sequence[int] | Mapping[str, int] = "x",
        dims: Sequence[int] | Mapping[str, int] | None = None,
        /,
        **legs: int,
    ) -> tuple[str, ...]:
        """Add an input and return the names of its legs, row major.

        Arguments:
            name_or_dims: the port's name ("x" where it is left out), or its dims.
            dims: sizes of fresh legs (wires), or sizes by leg name.
            legs: sizes by leg name, instead of dims.

        Raises SpecError for a second input of this name, and for wrong sizes or names.

        >>> Network().input("x", [2, 3])
        ('x.0', 'x.1')
        """
        if isinstance(name_or_dims, str):
            name = check_name(name_or_dims, "input port")
        elif dims is None:
            name, dims = "x", name_or_dims
        else:
            msg = f"input(): expected a port name before the dims, got {shown(name_or_dims)}"
            raise SpecError(msg)
        if name in self._inputs:
            msg = (
                f"input {name!r} is declared already, with legs {shown(self._inputs[name])}; "
                "declare all its legs in one call, or give the second input a name of its own"
            )
            raise SpecError(msg)
        if dims is not None and legs:
            msg = f"input {name!r}: give its legs as dims or by name, not both"
            raise SpecError(msg)
        self._check_room()
        named = dims if isinstance(dims, Mapping) else legs if dims is None else None
        if named is not None:
            names = self._legs.declare(named, f"input {name!r}")
        else:
            names = self._legs.make_wires(name, 0, dims, f"input {name!r}")
        self._inputs[name] = names
        return names

    def output(self, legs: Legs | Mapping[str, int] | None = None, /, **dims: int) -> None:
        """Close the network: the legs of y, in the order given.

        Arguments:
            legs: names of legs that exist or are declared elsewhere, such as wires; or sizes by
                name of legs that are declared here.
            dims: sizes by name of legs that are declared here; they follow after legs.

        Raises SpecError for a second call and for a wire that is consumed twice. Without any
        leg, y is of shape (..., 1).
        """
        if self._output is not None:
            msg = (
                f"the output is declared already, with legs {shown(self._output)}; a network has "
                "one output: name all its legs in one call (net.reorder permutes them)"
            )
            raise SpecError(msg)
        if isinstance(legs, Mapping):
            legs, dims = None, _both_dims(legs, dims, "output()")
        names = split_legs(legs, "the output") if legs is not None else ()
        both = (*names, *take_bounded(dims, "the output"))
        leg, count = next(iter(Counter(both).most_common(1)), ("", 0))
        if count > 1:
            msg = f"leg {leg!r} stands {count} times in the output; an output leg stands once"
            raise SpecError(msg)
        # Check the wires before declaring and mark them after, so that an error changes nothing.
        self._legs.check_wires(names, "the output")
        self._legs.declare(dims, "output")
        self._legs.mark_wires(names, "the output")
        self._output = both

    def port(
        self, name: str, *, batched: bool = True, product: bool = False, dtype: object = None
    ) -> None:
        """Set the options of an input.

        Arguments:
            name: the input's name; the input may be declared before or after.
            batched: whether x has leading dimensions.
            product: whether x is a product state of shape (..., n, d), one vector a leg.
            dtype: dtype that x must have (a name, a numpy or a torch dtype), or None. Of whole
                numbers, as in "int64", x is cast to the layer's dtype and gets no gradient.

        Raises SpecError for a second call for the same port, and at freeze() where there is no
        such input.

        >>> net = Network("three spins")
        >>> spins = net.input([2, 2, 2])
        >>> net.port("x", product=True)  # x is (..., 3, 2)
        """
        check_name(name, "input port")
        if name in self._options:
            msg = f"the options of input {name!r} are set already; set them all in one port() call"
            raise SpecError(msg)
        for option, flag in (("batched", batched), ("product", product)):
            if not isinstance(flag, bool):
                msg = f"input {name!r}: {option} must be True or False, got {shown(flag)}"
                raise SpecError(msg)
        dtype_name = check_dtype_name(dtype, f"input {name!r}")
        self._options[name] = Port(name, (), batched, product, dtype_name)

    def reorder(
        self,
        *,
        input: Legs | Mapping[str, Legs] | None = None,
        output: Legs | None = None,
    ) -> None:
        """Permute the legs of ports.

        Arguments:
            input: the legs of the only input in their new order, or a mapping of port names to
                legs.
            output: the output's legs in their new order.

        Raises SpecError where the legs are not those that the port has.

        >>> net = Network()
        >>> legs = net.input(i=2, k=3)
        >>> net.reorder(input="k i")  # now the features of x are row major in (k, i)
        """
        if input is not None:
            if not isinstance(input, Mapping):
                if len(self._inputs) != 1:
                    msg = (
                        f"reorder(input=...): the network has {len(self._inputs)} inputs "
                        f"({', '.join(self._inputs)}); pass a mapping of port name to legs"
                    )
                    raise SpecError(msg)
                input = dict.fromkeys(self._inputs, input)
            for name in input:
                if name not in self._inputs:
                    known = suggest(name, self._inputs) if isinstance(name, str) else ""
                    msg = f"reorder(): there is no input {shown(name)}{known}"
                    raise SpecError(msg)
            orders = {
                name: _permuted(self._inputs[name], legs, f"input {name!r}")
                for name, legs in input.items()
            }
        else:
            orders = {}
        if output is not None:
            if self._output is None:
                msg = "reorder(output=...): the output is not declared yet; call net.output first"
                raise SpecError(msg)
            self._output = _permuted(self._output, output, "the output")
        self._inputs.update(orders)

    # -- legs --------------------------------------------------------------------------------

    def bond(self, sizes: Mapping[str, int] | None = None, /, **dims: int) -> None:
        """Declare inner legs.

        Arguments:
            sizes: size by leg name, for names that are made by a program.
            dims: size by leg name; a leg may join any number of tensors (a copy tensor).

        Raises SpecError for a name that is declared already.

        >>> net = Network("chain")
        >>> net.bond({f"b{k}": 2 for k in range(3)}, c=4)
        """
        if sizes is not None:
            check_mapping(sizes, "bond()", "sizes by leg name")
            dims = _both_dims(sizes, dims, "bond()")
        self._legs.declare(dims, "bond", is_bond=True)

    def sum(self, *legs: Legs) -> None:
        """Say that legs with one end are summed over.

        Arguments:
            legs: leg names; none of them a leg of the output.

        >>> net = Network("sum of all features")
        >>> legs = net.input(i=4)
        >>> net.sum("i")
        >>> net.output()
        >>> net.parameter_count, net.out_features
        (0, 1)
        """
        self._summed.update(leg for some in legs for leg in split_legs(some, "sum()"))

    def fix(self, indices: Mapping[str, int] | None = None, /, **legs: int) -> None:
        """Pin legs of ports to basis states; their unused slices leave the parameters.

        Arguments:
            indices: index by leg name, for fresh names (which contain a dot).
            legs: index by leg name.

        Raises SpecError for a leg that is fixed twice; at freeze() for a leg that is in no port
        and for an index out of range.

        >>> net = Network()
        >>> legs = net.input(i=2, k=3)
        >>> net.output(j=4)
        >>> made = net.tensor("A", "i k j")
        >>> net.fix(i=0)
        >>> net.in_features, net.parameter_count
        (3, 12)
        """
        if indices is not None:
            check_mapping(indices, "fix()", "index by leg name")
        wanted = {**(indices or {}), **legs}
        split_legs(wanted, "fix()")
        for leg, index in wanted.items():
            wanted[leg] = check_whole(index, f"fix(): the index of leg {leg!r}")
            if leg in self._fixed:
                msg = f"leg {leg!r} is fixed already, at index {self._fixed[leg]}; fix it once"
                raise SpecError(msg)
        self._fixed.update(wanted)

    def copy_leg(self, *legs: Legs) -> None:
        """Allow wires to be consumed more than once: each becomes a copy tensor (hyperedge).

        Arguments:
            legs: names of legs that exist. Named legs never need this.

        Raises SpecError for a leg that there is not.

        >>> net = Network("two tensors on one leg")
        >>> (x,) = net.input([2])
        >>> net.copy_leg(x)
        >>> net.output([*net.tensor("A", [x], out=(3,)), *net.tensor("B", [x], out=(3,))])
        >>> net.out_features
        9
        """
        for leg in [leg for some in legs for leg in split_legs(some, "copy_leg()")]:
            if leg not in self._legs:
                msg = f"copy_leg(): there is no leg {leg!r}{suggest(leg, self._legs)}"
                raise SpecError(msg)
            self._legs.allow_copies(leg)

    # -- tensors -----------------------------------------------------------------------------

    def tensor(
        self,
        name: str,
        legs: Legs,
        *,
        out: Sequence[int] | None = None,
        share: str | None = None,
        conj: bool = False,
        trainable: bool = True,
        value: object = None,
        init: str | float | NearIdentity | Callable[..., Any] | None = None,
        isometry: Legs | None = None,
    ) -> tuple[str, ...]:
        """Add a tensor and return the names of the wires that it makes.

        Arguments:
            name: its name, also its key in the layer's state_dict.
            legs: one leg an axis, as a string of names or a sequence.
            out: sizes of fresh legs (wires), which follow after legs as further axes.
            share: the tensor whose parameter this one uses; it may be declared later.
            conj: whether the complex conjugate of the parameter is used.
            trainable: False for a parameter without grad, or with a value a constant.
            value: entries at full shape, a numpy or torch array.
            init: how the entries start. By default, and for "normal" and "uniform", they are drawn
                with the deviation that gives Var(y) = Var(x); "zeros", "ones", "eye",
                "orthogonal", a name of :func:`tnlayer.register_initialiser`, a standard deviation
                or a callable are kept as they are. "identity" and :func:`tnlayer.near_identity`
                let signals pass: for chains of many tensors.
            isometry: legs of one side of the matricised tensor, which starts as a Haar-random
                isometry and is not scaled; with init="scaled" it is multiplied so that
                Var(y) = Var(x), with "identity" it is near the identity. Training is free to leave
                the isometries.

        Raises SpecError for names in use, wires consumed twice, and options that clash.
        """
        where = f"tensor {check_tensor_name(name)!r}"
        if name in self._tensors:
            msg = (
                f"{where} is declared already, with legs {shown(self._tensors[name].legs)}; "
                "give the second one a name of its own (share= reuses the parameter)"
            )
            raise SpecError(msg)
        self._check_room()
        for option, flag in (("conj", conj), ("trainable", trainable)):
            if not isinstance(flag, bool):
                msg = f"{where}: {option} must be True or False, got {shown(flag)}"
                raise SpecError(msg)
        if share is not None:
            check_tensor_name(share)
        in_legs = split_legs(legs, where)
        node = TensorNode(
            name, in_legs, share, conj, trainable, init=check_init(init, where),
            value=None if value is None else as_array_value(value, where),
            isometry=() if isometry is None else _isometry_axes(in_legs, isometry, where),
        )  # fmt: skip
        self._legs.check_wires(in_legs, where)
        made = () if out is None else self._legs.make_wires(name, len(in_legs), out, where)
        self._legs.mark_wires(in_legs, where)
        self._tensors[name] = replace(node, legs=(*in_legs, *made))
        return made

    def set_values(self, values: Mapping[str, object]) -> None:
        """Bring in arrays of one's own by tensor name.

        Arguments:
            values: entries at full shape by tensor name; each replaces a value or an init.

        Raises SpecError for unknown names, for sharers, and at freeze() for wrong shapes.

        >>> net = Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 2}, names=["x", "W"])
        >>> net.set_values({"W": [[1.0, 0.0], [0.0, 1.0]]})
        """
        nodes: dict[str, TensorNode] = {}
        check_mapping(values, "values", "arrays by tensor name")
        for name, value in values.items():
            if name not in self._tensors:
                known = suggest(name, self._tensors) if isinstance(name, str) else ""
                msg = f"set_values(): no tensor {shown(name)}{known}"
                raise SpecError(msg)
            node = self._tensors[name]
            if node.share is not None:
                msg = f"tensor {name!r} shares {node.share!r}; give the value to {node.share!r}"
                raise SpecError(msg)
            array = as_array_value(value, f"tensor {name!r}")
            nodes[name] = replace(node, value=array, init=None)
        self._tensors.update(nodes)

    # -- the finished network ----------------------------------------------------------------

    def freeze(self) -> Graph:
        """The frozen, hashable Graph of what was said so far.

        Raises SpecError where the network is not finished or has no meaning.

        >>> Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3}).freeze()
        <Graph 'j,jk->k': 2 -> 3, 1 tensor, 6 parameters (as many as dense)>
        """
        return self._frozen(is_state=False)

    def _frozen(self, *, is_state: bool) -> Graph:
        """As freeze(); is_state as for validate."""
        if self._output is None:
            msg = (
                "the network has no output; call net.output(...) with its legs, "
                "or net.output() for a scalar y of shape (..., 1)"
            )
            raise SpecError(msg)
        for name in self._options:
            if name not in self._inputs:
                msg = f"port({name!r}): there is no input {name!r}{suggest(name, self._inputs)}"
                raise SpecError(msg)
        graph = self._said()
        validate(graph, is_state=is_state)
        # A leg with two ends or more is summed anyway: saying so adds nothing to the content.
        ends = Counter(leg for _, legs in ends_of(graph) for leg in legs)
        return replace(graph, summed=frozenset(leg for leg in graph.summed if ends[leg] == 1))

    @property
    def parameter_count(self) -> int:
        """Number of trainable entries that are stored, a shared tensor counted once."""
        return self.freeze().parameter_count

    @property
    def stored_count(self) -> int:
        """Number of all stored entries, trainable or not."""
        return self.freeze().stored_count

    @property
    def in_features(self) -> int:
        """Features of the first input."""
        return self.freeze().in_features

    @property
    def out_features(self) -> int:
        """Features of y."""
        return self.freeze().out_features

    def __repr__(self) -> str:
        try:
            return f"<Network {headline(self.freeze())}>"
        except SpecError:
            return (
                f"<Network {self.label!r}, not finished: "
                f"{counted(len(self._tensors), 'tensor')} so far>"
            )

    def _repr_html_(self) -> str:
        try:
            return graph_html(self.freeze())
        except SpecError as error:
            return block(heading(repr(self)), lines((str(error),)))

    def __str__(self) -> str:
        try:
            return describe(self.freeze())
        except SpecError as error:
            return f"{self!r}\n  {error}"

    # -- other forms -------------------------------------------------------------------------

    def copy(self) -> Network:
        """An independent builder with the same content.

        >>> net = Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3})
        >>> other = net.copy()
        >>> other.fix(k=0)
        >>> net.out_features, other.out_features, net.stored_count
        (3, 1, 6)
        """
        other = Network(self.label)
        other._legs = self._legs.copy()
        other._inputs = dict(self._inputs)
        other._options = dict(self._options)
        other._output = self._output
        other._tensors = dict(self._tensors)
        other._summed = set(self._summed)
        other._fixed = dict(self._fixed)
        return other

    # -- networks of networks ----------------------------------------------------------------

    def __add__(self, other: Network | Graph | SumOfNetworks) -> SumOfNetworks:
        """The sum of two networks with equal ports, as :class:`tnlayer.Layer` takes it."""
        return SumOfNetworks.of((self.freeze(), *_terms(other)))

    def __radd__(self, other: Graph | SumOfNetworks | int) -> SumOfNetworks:
        return SumOfNetworks.of((*_terms(other), self.freeze()))

    def compose(self, other: Network | Graph) -> Network:
        """This network and then another, as one: y of this one is x of the other.

        Arguments:
            other: with one input, whose legs have the sizes of this one's output, in order.

        Returns:
            a new network; both others stay as they are.

        Raises SpecError where the legs do not fit, and where a tensor of both has one name:
        :meth:`renamed` gives others.

        >>> import tnlayer as tn
        >>> first = tn.topologies.tensor_train((2, 3), (4, 5), rank=2)
        >>> second = tn.topologies.tensor_train((4, 5), (2, 2), rank=3)
        >>> both = first.compose(second.renamed(prefix="second_"))
        >>> both.in_features, both.out_features, both.parameter_count
        (6, 4, 100)
        """
        graph = other.freeze() if isinstance(other, Network) else other
        if not isinstance(graph, Graph):
            msg = f"compose: expected a network, got {shown(other)}"
            raise SpecError(msg)
        return Network.from_graph(composed(self.freeze(), graph))

    def renamed(
        self,
        tensors: Mapping[str, str] | None = None,
        *,
        legs: Mapping[str, str] | None = None,
        ports: Mapping[str, str] | None = None,
        prefix: str = "",
    ) -> Network:
        """The same network with other names, as a new one.

        Arguments:
            tensors: new names of tensors by old ones; those that are left out stay.
            legs: the same of legs.
            ports: the same of inputs.
            prefix: put before the names of the tensors that are not in ``tensors``.

        Raises SpecError for names that there are not, and for new ones that are taken.

        >>> net = Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3}, names=["x", "W"])
        >>> [tensor.name for tensor in net.renamed({"W": "weights"}).freeze().tensors]
        ['weights']
        >>> [tensor.name for tensor in net.renamed(prefix="a_").freeze().tensors]
        ['a_W']
        """
        graph = self.freeze()
        for names, what in ((tensors, "tensors"), (legs, "legs"), (ports, "ports")):
            if names is not None:
                check_mapping(names, f"renamed(): {what}", "new names by old ones")
        given = {**{t.name: f"{prefix}{t.name}" for t in graph.tensors}, **(tensors or {})}
        return Network.from_graph(renamed(graph, given, legs or {}, ports or {}))

    @classmethod
    def from_graph(cls, graph: Graph) -> Network:
        """A builder with the content of a frozen graph, to go on editing it.

        Arguments:
            graph: as :meth:`freeze` or a layer's ``graph`` gives it.

        Raises SpecError for anything else.

        >>> net = Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3})
        >>> Network.from_graph(net.freeze()).freeze() == net.freeze()
        True
        """
        if not isinstance(graph, Graph):
            msg = (
                f"from_graph: expected a tnlayer.Graph (net.freeze() gives one), got {shown(graph)}"
            )
            raise SpecError(msg)
        validate(graph, is_state=True)  # freeze() bounds the features: legs may be fixed until then
        net = cls(graph.label)
        net._legs = LegTable.of(graph)
        net._inputs = {port.name: port.legs for port in graph.inputs}
        net._options = {
            port.name: replace(port, legs=())
            for port in graph.inputs
            if port != Port(port.name, port.legs)
        }
        net._output = graph.output
        net._tensors = dict(graph.nodes)
        net._summed = set(graph.summed)
        net._fixed = dict(graph.fixed)
        return net

    # -- inner -------------------------------------------------------------------------------

    def _said(self) -> Graph:
        """What was said so far, unchecked."""
        inputs = tuple(
            replace(self._options.get(name, Port(name, ())), legs=legs)
            for name, legs in self._inputs.items()
        )
        return Graph(
            label=self.label,
            leg_sizes=self._legs.sizes(),
            inputs=inputs,
            output=self._output or (),
            tensors=resolve_shares(self._tensors.values()),
            summed=frozenset(self._summed),
            fixed=tuple(sorted(self._fixed.items())),
        )

    def _drawn(self) -> tuple[Graph, Missing | None]:
        try:
            return self.freeze(), None
        except SpecError as error:
            try:
                return as_far_as_it_goes(self._said())
            except SpecError:
                raise error from None

    def _check_room(self) -> None:
        """Refuse the node that would be one too many (the output is a node, too)."""
        if len(self._tensors) + len(self._inputs) + 2 > MAX_NODES:
            msg = f"the network has {MAX_NODES} nodes already, more are not allowed"
            raise SpecError(msg)


def _terms(other: object) -> tuple[Graph, ...]:
    """The networks of a term of a sum."""
    if isinstance(other, SumOfNetworks):
        return tuple(other)
    if isinstance(other, Network):
        return (other.freeze(),)
    if isinstance(other, Graph):
        return (other,)
    if isinstance(other, int) and other == 0:  # where sum() begins
        return ()
    msg = f"a network cannot be added to {shown(other)}; add networks, or their sums"
    raise SpecError(msg)


def _permuted(old: tuple[str, ...], legs: Legs, where: str) -> tuple[str, ...]:
    """The legs in their new order, if they are the old ones."""
    new = split_legs(legs, f"reorder(), {where}")
    if Counter(new) != Counter(old):
        msg = (
            f"reorder(): {where} has the legs {shown(old)}, expected a permutation, "
            f"got {shown(new)}"
        )
        raise SpecError(msg)
    return new


def _both_dims(sizes: Mapping[str, int], dims: Mapping[str, int], where: str) -> dict[str, int]:
    """Sizes by name from a mapping and from keywords, each name once."""
    twice = next((name for name in dims if name in sizes), None)
    if twice is not None:
        msg = f"{where}: leg {twice!r} stands in the mapping and by name; give it once"
        raise SpecError(msg)
    return {**sizes, **dims}


def freeze_state(net: Network) -> Graph:
    """As ``net.freeze()``, of a state with any number of sites."""
    return net._frozen(is_state=True)  # pyright: ignore[reportPrivateUsage]


def _isometry_axes(legs: tuple[str, ...], isometry: Legs, where: str) -> tuple[int, ...]:
    """The axes of one side of the matricised tensor, from the legs' names."""
    names = split_legs(isometry, f"{where}: isometry")
    if not names:
        msg = f"{where}: isometry names no leg; name the legs of one side, of {listed(legs)}"
        raise SpecError(msg)
    stand, named = Counter(legs), Counter(names)
    for name in names:
        if stand[name] != 1 or named[name] != 1:
            stands = "more than once" if name in stand else "not"
            msg = (
                f"{where}: isometry leg {name!r} stands {stands} among its legs "
                f"{listed(legs)}{'' if name in stand else suggest(name, legs)}; expected each "
                "leg of one side, once"
            )
            raise SpecError(msg)
    return tuple(axis for axis, leg in enumerate(legs) if leg in named)

"""The backward of a Plan, as another Plan.

The contraction tree is differentiated, not each input's environment: every step gives at most one
new step for each operand, so the backward of contractions costs twice the forward. Gradients follow
torch's convention: for y = w * x the gradient of w is grad_y * conj(x).

A forward value that a gradient needs is either kept for the backward or made again in it: a
repeated forward step stands just before the first use of its result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..ir.counts import elements
from ..ir.plan import Plan
from ..ir.plan_parts import Output
from ..ir.steps import (
    Add,
    Contract,
    Diagonal,
    Embed,
    Expand,
    Operand,
    Origin,
    Part,
    Reduce,
    Scatter,
    Select,
    Step,
    Value,
    with_operands,
)

GRADIENT = "g"
AGAIN = "r_"


def adjoint(forward: Plan, wanted: Iterable[str], recompute: Collection[str] | None = None) -> Plan:
    """The plan that gives the gradients of the wanted inputs from the gradient of the output.

    Its ports are the gradient ``g`` and the forward's ports; of the forward's values only those
    that some wanted gradient needs are among ``saved``. Outputs are named ``d_`` + input, values
    that are made again ``r_`` + value; what a step comes from is told by its origin. Where the
    forward has the user's names, gradients are shown as ``d_`` and these.

    Arguments:
        forward: a plan with one output.
        wanted: names of the inputs that require a gradient; the mask is part of the plan.
        recompute: names of values that are never kept; by default as the plan's memory says.
    """
    if recompute is None:
        recompute = forward.recomputed
    wanted = frozenset(wanted)
    builder = _Builder(forward, wanted)
    output = forward.outputs[0]
    gradient = Value(GRADIENT, output.legs)
    builder.give(output.operand, Operand(gradient))
    for step in reversed(forward.steps):
        builder.differentiate(step)
    for value in forward.inputs:
        builder.name(f"d_{value.name}", value)
    outputs = tuple(
        Output(f"d_{value.name}", operand, forward.axes_of(value))
        for value in forward.inputs
        if (operand := builder.gradient_of(value)) is not None and value.name in wanted
    )
    steps = _with_repeats(forward, _needed(builder.steps, outputs), recompute)
    used = {operand.value.name for step in steps for operand in step.operands}
    used |= {output.operand.value.name for output in outputs}
    made = [step.result for step in forward.steps if not isinstance(step, Select)]
    return replace(
        forward,
        port_axes=((GRADIENT, output.axes), *forward.port_axes),
        ports=(gradient, *(port for port in forward.ports if port.name in used)),
        parameters=tuple(value for value in forward.parameters if value.name in used),
        saved=tuple(value for value in made if value.name in used),
        steps=steps,
        outputs=outputs,
        regions=(),
        names=(*forward.names, *builder.shown.items()),
    )


@dataclass(slots=True)
class _Builder:
    """Steps made so far, and for each forward value the gradients that reached it.

    Arguments:
        forward: the plan that is differentiated.
        wanted: names of the inputs whose gradients are wanted.
        steps: what was emitted so far.
        terms: for each value gradients of its shape.
        parts: for each value gradients of slices of it.
        selects: for each of these values the Select that its first part is of.
        makers: the forward's steps, by their results.
        made: how many gradients of each value have a name.
        depends: values that a wanted input enters.
        users: the user's names of the forward's inputs, tensors and legs.
        taken: those that are taken.
        shown: the names of gradients that are shown to the user, by their own.
    """

    forward: Plan
    wanted: frozenset[str]
    steps: list[Step] = field(default_factory=list)
    terms: dict[str, list[Operand]] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    selects: dict[str, str] = field(default_factory=dict)
    makers: frozenset[str] = frozenset()
    made: dict[str, int] = field(default_factory=dict)
    depends: frozenset[str] = frozenset()
    users: dict[str, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    shown: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A value needs a gradient if a wanted input enters it."""
        depends = set(self.wanted)
        for step in self.forward.steps:
            if any(operand.value.name in depends for operand in step.operands):
                depends.add(step.result.name)
        self.depends = frozenset(depends)
        self.makers = frozenset(step.result.name for step in self.forward.steps)
        self.users = dict(self.forward.names)
        self.taken = frozenset(self.users.values())

    def give(self, operand: Operand, gradient: Operand) -> None:
        """Add a gradient of an operand to that of its value (conjugated if the operand was)."""
        if operand.conj:
            gradient = Operand(gradient.value, not gradient.conj)
        self.terms.setdefault(operand.value.name, []).append(gradient)

    def emit(self, step: Step) -> Operand:
        """Append a step and return its result as an operand."""
        self.steps.append(step)
        return Operand(step.result)

    def fresh(self, of: Value) -> Value:
        """A new value for a gradient of ``of``; the k-th contribution has a suffix."""
        count = self.made[of.name] = self.made.get(of.name, -1) + 1
        suffix = f"_{count}" if count else ""
        name = f"d_{of.name}{suffix}"
        self.name(name, of, suffix)
        return Value(name, of.legs)

    def name(self, gradient: str, of: Value, suffix: str = "") -> None:
        """Note how a gradient is shown; as it is where a name of the user's is the same."""
        user = self.users.get(of.name)
        if user is not None and f"d_{user}{suffix}" not in self.taken:
            self.shown[gradient] = f"d_{user}{suffix}"

    def gradient_of(self, value: Value) -> Operand | None:
        """The whole gradient of a value: its terms and scattered parts, summed."""
        terms, parts = self.terms.get(value.name, []), self.parts.get(value.name, [])
        if not parts and len(terms) <= 1:
            return terms[0] if terms else None
        everything = (*(Part(term, ()) for term in terms), *parts)
        maker = value.name if value.name in self.makers else ""
        origin = Origin("sum", maker if terms else self.selects[value.name], value.name)
        if any(part.pins for part in everything):
            return self.emit(Scatter(self.fresh(value), everything, origin=origin))
        operands = tuple(part.operand for part in everything)
        return self.emit(Add(self.fresh(value), operands, origin=origin))

    def differentiate(self, step: Step) -> None:
        """Emit the adjoint of one forward step, for the operands that need it."""
        if step.result.name not in self.depends:
            return
        gradient = self.gradient_of(step.result)
        if gradient is None:
            return
        match step:
            case Contract():
                self._contract(step, gradient)
            case Reduce() | Diagonal():
                kind = Expand if isinstance(step, Reduce) else Embed
                of = step.operand.value
                origin = Origin("gradient", step.result.name, of.name)
                self.give(step.operand, self.emit(kind(self.fresh(of), gradient, origin=origin)))
            case Select():
                self.selects.setdefault(step.operand.value.name, step.result.name)
                if step.operand.conj:
                    gradient = Operand(gradient.value, not gradient.conj)
                self.parts.setdefault(step.operand.value.name, []).append(Part(gradient, step.pins))
            case _:
                msg = f"a forward plan has no {type(step).__name__} step"
                raise NotImplementedError(msg)

    def _entries(self, value: Value) -> tuple[int, int]:
        """Size of a value for comparing: what grows with the batch counts as larger."""
        size = elements(value.legs, self.forward.sizes)
        return (size.per_sample, size.fixed)

    def _contract(self, step: Contract, gradient: Operand) -> None:
        """grad_left = grad * conj(right), over the legs that left lacks; likewise for right.

        The smaller gradient comes first: a large operand that only it reads can then be freed
        before the larger one is allocated.
        """
        pairs = [(step.left, step.right), (step.right, step.left)]
        for operand, other in sorted(pairs, key=lambda pair: self._entries(pair[0].value)):
            if operand.value.name not in self.depends:
                continue
            factor = Operand(other.value, self.forward.is_complex and not other.conj)
            result = self.fresh(operand.value)
            origin = Origin("gradient", step.result.name, operand.value.name)
            self.give(operand, self.emit(Contract(result, gradient, factor, origin=origin)))


def repeated(step: Step) -> Step:
    """A forward step as a backward does it again."""
    name = step.result.name
    return replace(step, origin=Origin("repeat", name, name))


def _needed(steps: Sequence[Step], outputs: tuple[Output, ...]) -> tuple[Step, ...]:
    """The steps that some output depends on, in order."""
    used = {output.operand.value.name for output in outputs}
    kept: list[Step] = []
    for step in reversed(steps):
        if step.result.name in used:
            kept.append(step)
            used.update(operand.value.name for operand in step.operands)
    return tuple(reversed(kept))


def _with_repeats(
    forward: Plan, steps: tuple[Step, ...], recompute: Collection[str]
) -> tuple[Step, ...]:
    """The steps with forward steps put in before the first use of what they make.

    Slices and renamed parameters are always repeated, and keep their name: they cost less than
    saving.
    """
    makers = {step.result.name: step for step in forward.steps}
    order = {name: position for position, name in enumerate(makers)}
    again: dict[str, Value] = {}
    for name, maker in makers.items():
        if isinstance(maker, Select):
            again[name] = maker.result
        elif name in recompute:
            again[name] = Value(f"{AGAIN}{name}", maker.result.legs)
    made: set[str] = set()
    placed: list[Step] = []
    for step in steps:
        missing: set[str] = set()
        pending = [step]
        while pending:
            names = {operand.value.name for operand in pending.pop().operands}
            found = {name for name in names if name in again} - made - missing
            missing |= found
            pending += (makers[name] for name in found)
        repeats = (makers[name] for name in sorted(missing, key=order.__getitem__))
        for repeat in (*repeats, step):
            renamed = with_operands(repeat, lambda value: again.get(value.name, value))
            if repeat is not step:
                renamed = replace(repeated(renamed), result=again[repeat.result.name])
            placed.append(renamed)
        made |= missing
    return tuple(placed)

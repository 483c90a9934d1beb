"""The permutation structure of a network, derived from the network itself.

``derive`` follows the model with torch.fx and an example, gives every axis of every tensor its units, and joins those
that have to be permuted together: residual streams, channels through normalisation, heads, flattened places. A model
that cannot be followed to the end is refused with the name of the module, because a half-aligned model is worse than
an unaligned one. What was derived is then put to the test: a copy with random weights and random permutations has to
compute the same (``certificate``).

The structure is the one that Git Re-Basin writes down by hand per architecture (Ainsworth et al., arXiv 2209.04836,
section 3) and DIMAT (Saadati et al., arXiv 2404.08079) as a graph per architecture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from mergenode.mixers.axes import Atoms, Axes
from mergenode.mixers.certificate import certify
from mergenode.mixers.labels import Structure
from mergenode.mixers.propagation import Propagation
from mergenode.mixers.symmetry import Factor, Group, Layout, Symmetry
from mergenode.mixers.tracing import refusal, trace


def derive(model: nn.Module, inputs: Sequence[Tensor]) -> Symmetry:
    """Which axes of which tensors are permuted together without a change of what ``model`` computes.

    ``inputs``: an example of the positional arguments of its forward pass; values do not matter, shapes do as far as
    the model's code depends on them. ``model`` is left as it was; the result shares its parameters. Units of inputs,
    outputs, places, batches and rows of embeddings stay where they are. One forward pass, and three for the test.

    Raises:
        UsageError: the model cannot be followed, or has an operation without a rule, or a tensor that the forward
        pass does not use; the message names the module. What the model itself raises on these inputs is let through.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            program = trace(model)
            structure = Structure(Atoms(), _names(model))
            propagation = Propagation(program, model, structure)
            propagation.run(*inputs)
            symmetry = _symmetry(model, program, propagation)
            certify(symmetry, model, inputs)
    finally:
        for module, training in modes.items():
            module.training = training
    return symmetry


def _names(model: nn.Module) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return names


def _symmetry(model: nn.Module, program: fx.GraphModule, propagation: Propagation) -> Symmetry:
    structure = propagation.structure
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if id(tensor) not in structure.tensors and tensor.ndim > 0:
            path = name.rpartition(".")[0]
            raise refusal(path, model.get_submodule(path), f"holds {name!r}, which the forward pass does not use")
    values = {node.name: axes for node, axes in propagation.axes.items() if isinstance(axes, tuple)}
    tensors = {name: structure.tensors.get(id(tensor), ()) for name, tensor in state.items()}
    every = [*values.values(), *structure.tensors.values()]
    groups = _groups(structure.atoms, every)
    layouts = {name: _layout(structure.atoms, axes, groups) for name, axes in values.items()}
    observed = [name for name in structure.consumed if any(f.group for axis in layouts[name] for f in axis)]
    parameters = {id(tensor): name for name, tensor in state.items() if isinstance(tensor, nn.Parameter)}
    return Symmetry(
        program=program,
        groups=tuple(groups.values()),
        tensors={name: _layout(structure.atoms, axes, groups) for name, axes in tensors.items()},
        learned=tuple(parameters.values()),
        values=layouts,
        observed=tuple(observed),
    )


def _groups(atoms: Atoms, every: Sequence[Axes]) -> dict[int, Group]:
    """The atoms that can move, by atom, in the order of their first occurrence, outer before inner.

    An atom that was split from a block is permuted apart in each block when, wherever it occurs, its block occurs
    too, once; else one permutation serves all blocks. So it does in blocks of blocks.
    """
    found: dict[int, Group] = {}
    occurrences = [[atom for axis in axes for atom in atoms.expand(axis)] for axes in every]
    outers: dict[int, int | None] = {}
    for atom in dict.fromkeys(atom for atoms_of_one in occurrences for atom in atoms_of_one):
        if not atoms.is_pinned((atom,)):
            outer = atoms.outer(atom)
            bound = all(outer is not None and those.count(outer) == 1 for those in occurrences if atom in those)
            outers[atom] = outer if bound else None
    for atom, outer in outers.items():
        for each in (outer, atom):
            if each is not None and each not in found:
                above = outers[each]
                block = None if above is None or outers[above] is not None else atoms.origin(above)
                found[each] = Group(atoms.origin(each), atoms.size(each), block)
    return found


def _layout(atoms: Atoms, axes: Axes, groups: dict[int, Group]) -> Layout:
    def factor(atom: int) -> Factor:
        group = groups.get(atom)
        return Factor(atoms.size(atom)) if group is None else Factor(group.size, group.name, group.outer)

    return tuple(tuple(factor(atom) for atom in atoms.expand(axis)) for axis in axes)

"""Axes as products of atoms: joining, splitting, pinning, reshaping."""

from __future__ import annotations

import pytest

from mergenode.mixers.axes import Atoms, Axis, Unmatched


def sizes(atoms: Atoms, axis: Axis) -> list[int]:
    return [atoms.size(atom) for atom in atoms.expand(axis)]


def test_axes_of_different_grain_become_the_finer_one() -> None:
    atoms = Atoms()
    whole = atoms.fresh(24, "whole")
    blocks = (*atoms.fresh(4, "blocks"), *atoms.fresh(6, "units"))
    atoms.unify(whole, blocks)
    assert atoms.expand(whole) == atoms.expand(blocks)
    assert sizes(atoms, whole) == [4, 6]


def test_what_is_joined_with_something_pinned_is_pinned_and_only_that() -> None:
    atoms = Atoms()
    axis, fixed, other = atoms.fresh(6, "axis"), atoms.fixed(6), atoms.fresh(6, "other")
    atoms.unify(fixed, axis)
    assert atoms.is_pinned(axis)
    assert not atoms.is_pinned(other)


def test_blocks_of_four_and_blocks_of_six_do_not_meet() -> None:
    atoms = Atoms()
    fours = (*atoms.fresh(4, "a"), *atoms.fresh(6, "b"))
    sixes = (*atoms.fresh(6, "c"), *atoms.fresh(4, "d"))
    with pytest.raises(Unmatched, match="blocks of 4 meet blocks of 6"):
        atoms.unify(fours, sixes)
    with pytest.raises(Unmatched, match="different sizes"):
        atoms.unify(atoms.fresh(4, "e"), atoms.fresh(8, "f"))


def test_pinned_blocks_take_any_grain() -> None:
    atoms = Atoms()
    fours = (*atoms.fixed(4), *atoms.fixed(6))
    sixes = (*atoms.fresh(6, "c"), *atoms.fresh(4, "d"))
    atoms.unify(fours, sixes)
    assert atoms.is_pinned(sixes)


def test_flattened_channels_keep_their_places_together() -> None:
    atoms = Atoms()
    channels = atoms.fresh(8, "channels")
    flat = atoms.regroup((atoms.fixed(5), channels, atoms.fixed(3), atoms.fixed(2)), (5, 48))
    assert sizes(atoms, flat[1]) == [8, 6]
    assert atoms.expand(flat[1])[0] == channels[0]
    assert atoms.is_pinned(flat[0]) and atoms.is_pinned(flat[1][1:])
    back = atoms.regroup(flat, (5, 8, 6))
    assert atoms.expand(back[1]) == channels


def test_batch_and_heads_in_one_dimension_come_apart_again() -> None:
    atoms = Atoms()
    units = atoms.fresh(12, "units")
    heads = atoms.regroup((atoms.fixed(5), atoms.fixed(7), units), (5, 7, 3, 4))
    folded = atoms.regroup((heads[0], heads[2], heads[1], heads[3]), (15, 7, 4))
    assert sizes(atoms, folded[0]) == [5, 3]
    assert atoms.outer(atoms.expand(folded[2])[0]) == atoms.expand(heads[2])[0]


def test_a_reshape_through_units_is_no_symmetry() -> None:
    atoms = Atoms()
    with pytest.raises(Unmatched, match="4 units to 6 cuts through a block"):
        atoms.regroup((atoms.fixed(4), atoms.fresh(9, "units")), (6, 6))


def test_an_axis_of_size_one_has_nothing_to_move() -> None:
    atoms = Atoms()
    assert atoms.fresh(1, "one") == ()
    assert atoms.is_pinned(())
    assert atoms.regroup(((), atoms.fixed(4)), (4, 1))[1] == ()

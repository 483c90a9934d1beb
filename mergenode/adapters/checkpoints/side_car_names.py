"""Names of side-cars: files beside the weights of a checkpoint that say what its data says about them."""

from __future__ import annotations

KINDS = ("fisher", "gram")
WEIGHTS_SUFFIX = ".safetensors"


def suffix_of(kind: str) -> str:
    """How the files of one kind end.

    Example:
        >>> suffix_of("gram")
        '.gram.safetensors'
    """
    return f".{kind}{WEIGHTS_SUFFIX}"


def is_side_car(name: str) -> bool:
    """True for the plain name of a side-car: never part of the weights.

    Example:
        >>> [is_side_car(name) for name in ("model.gram.safetensors", "gram.safetensors", "model.safetensors")]
        [True, False, False]
    """
    return any(name.endswith(suffix_of(kind)) and not name.startswith(".") for kind in KINDS)


def side_car_beside(weights: str, kind: str) -> str:
    """The name of the side-car of a bare weight file.

    Example:
        >>> side_car_beside("maths.safetensors", "fisher")
        'maths.fisher.safetensors'
    """
    return weights.removesuffix(WEIGHTS_SUFFIX) + suffix_of(kind)

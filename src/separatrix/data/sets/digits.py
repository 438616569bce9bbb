"""Handwritten digits: 1,797 grey images of 8 x 8 pixels, levels 0 to 16.

The split is fixed and stratified: with the images ordered by digit, file order kept within a digit, every fifth from
the first is for testing. So 360 test and 1,437 train, each digit in both to within one image of a fifth.

**Reference:** Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(scikit-learn ships its test part).
"""

import importlib.util
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from separatrix.data.arrays import read_npz
from separatrix.data.dataset import Fields
from separatrix.data.files import refusal
from separatrix.data.sets.named import Arrays, NamedSet, Place, images

_DO = "Save scikit-learn's digits with numpy.savez(path, images=..., labels=...)."


def _find_package() -> str | None:
    return "scikit-learn" if importlib.util.find_spec("sklearn") else None


def _from_package(_: str) -> Arrays:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return {"images": bunch.images.astype(np.uint8), "labels": bunch.target.astype(np.uint8)}


def _from_file(path: str) -> Arrays:
    arrays = read_npz(path)
    if set(arrays) != {"images", "labels"} or arrays["images"].shape[1:] != (8, 8) or arrays["labels"].ndim != 1:
        got = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise refusal(f"{path}: digits", got, "images (n, 8, 8) and labels (n,)", _DO)
    return {name: _small(path, name, arrays[name], most) for name, most in (("images", 16), ("labels", 9))}


def _small(path: str, name: str, array: Shaped[np.ndarray, "..."], most: int) -> Shaped[np.ndarray, "..."]:
    """An array of whole numbers from 0 to `most` as uint8."""
    whole = array.dtype.kind in "biuf" and np.all((array >= 0) & (array <= most) & (array == np.floor(array)))
    if not whole:
        raise refusal(f"{path}: digits", f"{name} of {array.dtype}", f"whole numbers from 0 to {most}", _DO)
    return array.astype(np.uint8)


def is_test(labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which images are for testing: every fifth in the order of digits."""
    chosen = np.zeros(len(labels), bool)
    chosen[np.argsort(labels, kind="stable")[::5]] = True
    return chosen


def _prepare(raw: Arrays) -> Fields:
    inputs, targets = images(raw["images"], 16), raw["labels"].astype(np.int32)
    test = is_test(targets)
    return {
        "inputs": inputs[~test],
        "targets": targets[~test],
        "test_inputs": inputs[test],
        "test_targets": targets[test],
    }


DIGITS = NamedSet(
    name="digits",
    summary="handwritten digits 0-9, grey images of 8 x 8 pixels, split 1437 / 360 by digit",
    source="E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998; as shipped with scikit-learn",
    licence="CC BY 4.0",
    sha256="07f9c165aac8ca2a4aa2f6548c27cd3bb38e0396e3d54c7f520e91cb1e422c1b",
    file="digits.npz",
    install='pip install "separatrix[data]"',
    places=(Place("scikit-learn", _find_package, _from_package),),
    read=_from_file,
    prepare=_prepare,
)

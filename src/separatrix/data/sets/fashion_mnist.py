"""Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten kinds of clothing, split 60,000 / 10,000 by its makers.

**Reference:** Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", arXiv:1708.07747, 2017.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataMissing, explain
from separatrix.data.dataset import Fields
from separatrix.data.files import refusal
from separatrix.data.idx import read_idx
from separatrix.data.sets.named import Arrays, NamedSet, Place, folder_of, images

_DEBIAN = "/usr/share/datasets/fashion-mnist"
_FILES = {
    "images": "train-images-idx3-ubyte",
    "labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def read_folder(path: str) -> Arrays:
    """The four IDX files of the MNIST family in one folder, gzipped or not."""
    arrays = {field: read_idx(_either(Path(path), name)) for field, name in _FILES.items()}
    for prefix in ("", "test_"):
        _require_images(path, arrays[f"{prefix}images"], arrays[f"{prefix}labels"])
    return arrays


def _either(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.exists():
            return candidate
    raise DataMissing(
        explain(f"{folder}", f"no {name}.gz and no {name}", "the four IDX files of the set", "Put the files there.")
    )


def _require_images(path: str, pictures: Shaped[np.ndarray, "..."], labels: Shaped[np.ndarray, "..."]) -> None:
    if pictures.ndim != 3 or labels.ndim != 1 or pictures.dtype != np.uint8 or labels.dtype != np.uint8:
        got = f"images {pictures.dtype}{pictures.shape} and labels {labels.dtype}{labels.shape}"
        raise refusal(path, got, "uint8 (n, height, width) and uint8 (n,)", "Check that the files fit together.")


def _prepare(raw: Arrays) -> Fields:
    return {
        "inputs": images(raw["images"], 255),
        "targets": raw["labels"].astype(np.int32),
        "test_inputs": images(raw["test_images"], 255),
        "test_targets": raw["test_labels"].astype(np.int32),
    }


FASHION_MNIST = NamedSet(
    name="fashion-mnist",
    summary="ten kinds of clothing, grey images of 28 x 28 pixels, split 60000 / 10000",
    source="H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747, 2017; Debian package dataset-fashion-mnist",
    licence="MIT",
    sha256="469eb8f998e87a74ae420aee735721cf5602708d4b7a50a4e2bea43d5b76f4a6",
    file="fashion-mnist",
    install="apt-get install dataset-fashion-mnist",
    places=(Place("Debian", folder_of(_DEBIAN), read_folder),),
    read=read_folder,
    prepare=_prepare,
)

"""What is installed, which devices there are, which data sets are found, and how large the cache is."""

import platform
from importlib import metadata
from typing import Any

import separatrix
from separatrix import data
from separatrix.cli.climate import cache_folder, compute
from separatrix.cli.command import Answer, columns
from separatrix.data.sets import NAMED

PACKAGES = (
    "jax", "jaxlib", "equinox", "diffrax", "optax", "lineax", "optimistix", "jaxtyping", "numpy", "safetensors", "tyro",
    "rich",
)  # fmt: skip
OPTIONAL = {
    "matplotlib": "plot", "scikit-learn": "data", "pyarrow": "data", "pillow": "images", "flax": "flax",
    "starlette": "studio",
}  # fmt: skip


def examine() -> Answer:
    """The examination: all is well where every required package and a device are there."""
    found: dict[str, Any] = {
        "versions": {"separatrix": separatrix.__version__, "python": platform.python_version()} | versions(PACKAGES),
        "optional": versions(OPTIONAL),
        "devices": devices(),
        "data": {name: data.locate(name) for name in data.names()},
        "cache": cache(),
    }
    return Answer(found, _text(found), bool(found["devices"]) and None not in found["versions"].values())


def versions(packages: Any) -> dict[str, str | None]:
    """The installed version of each package, or None."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def devices() -> list[dict[str, Any]]:
    """JAX's devices."""
    compute()
    import jax

    return [{"id": d.id, "platform": d.platform, "kind": d.device_kind} for d in jax.devices()]


def cache() -> dict[str, Any]:
    """Where compiled programs are kept, how many, and how large they are together."""
    folder = cache_folder()
    sizes = [file.stat().st_size for file in folder.glob("*-cache")] if folder.is_dir() else []
    return {"folder": str(folder), "programs": len(sizes), "bytes": sum(sizes)}


def _text(found: dict[str, Any]) -> str:
    extras = [
        (name, version or f'not installed: pip install "separatrix[{OPTIONAL[name]}]"')
        for name, version in found["optional"].items()
    ]
    devices = [(f"{d['platform']}:{d['id']}", d["kind"]) for d in found["devices"]]
    sets = [(name, place or f"not found: {NAMED[name].install}") for name, place in found["data"].items()]
    cache = found["cache"]
    stored = f"{cache['programs']} programs, {cache['bytes'] / 2**20:.1f} MiB"
    parts = {
        "versions": [(name, version or "not installed") for name, version in found["versions"].items()],
        "optional": extras,
        "devices": devices or [("none", "")],
        "data": sets,
        "cache": [(cache["folder"], stored)],
    }
    return "\n".join(f"{title}\n{columns(rows, indent='  ')}" for title, rows in parts.items())

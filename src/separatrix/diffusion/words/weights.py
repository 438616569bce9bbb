r"""Weights that come with the package: words to pictures of clothes, to be drawn from without training.

fashion-captions    latent diffusion on captions composed over Fashion-MNIST, 32 by 32 pixels, of which 40 of 240
                    combinations were withheld; made by `benchmarks/words.py`, stage `ship`
"""

from pathlib import Path

from separatrix._errors import unknown
from separatrix.diffusion.words.latent import LatentDiffusion

_FILES = {"fashion-captions": "fashion_captions.safetensors"}


def pretrained(name: str = "fashion-captions") -> LatentDiffusion:
    r"""Return a trained model that comes with the package.

    **Arguments:**

    - `name`: "fashion-captions"; see the head of this page.

    **Returns:** a `LatentDiffusion`.

    **Raises:** `ValueError` for another name.

    **Example:**

    >>> import jax, separatrix as sx
    >>> model = sx.diffusion.pretrained()
    >>> model.sample("two small sneakers, dark, on the left", jax.random.key(0), 1, steps=2).shape
    (1, 32, 32)

    **Reference:** Xiao, Rasul & Vollgraf, *Fashion-MNIST* (2017), for the pictures of clothes (MIT licence).
    """
    if name not in _FILES:
        raise ValueError(unknown("pretrained: name", name, tuple(_FILES), "Leave it out."))
    return LatentDiffusion.load(Path(__file__).parent / _FILES[name])

"""Run-time checks of every signature, with whole numbers accepted for floats.

A type checker accepts an `int` for a `float` (PEP 484). beartype does so if it is asked to. It also checks only one item of
a sequence, chosen at random: without this setting a call with `(0.7, 0.3, 0)` fails in one run of three.
"""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

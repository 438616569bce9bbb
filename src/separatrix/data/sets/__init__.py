"""The named data sets, one file each: where copies may be, how one is read, and what is known of it."""

from separatrix.data.sets import digits, fashion_mnist, king_james, lynx_hare, santa_fe, solar_system
from separatrix.data.sets.named import NamedSet as NamedSet, Place as Place
from separatrix.data.sets.solar_system import GRAVITY as GRAVITY

NAMED: dict[str, NamedSet] = {
    named.name: named
    for named in (
        digits.DIGITS,
        fashion_mnist.FASHION_MNIST,
        king_james.GENESIS,
        king_james.KING_JAMES,
        lynx_hare.LYNX_HARE,
        santa_fe.SANTA_FE,
        solar_system.SOLAR_SYSTEM,
    )
}

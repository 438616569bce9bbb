"""What a long command says while it works: a spinner on a terminal, lines elsewhere; always on standard error.

Standard output is for the answer alone, so that it can be piped. `rich` leaves out colours where NO_COLOR is set.
"""

import contextlib
from collections.abc import Callable, Iterator

Say = Callable[[str, str], None]


@contextlib.contextmanager
def progress() -> Iterator[Say]:
    """A function `say(chapter, what)` for as long as the block runs."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda chapter, what: console.print(f"{chapter}: {what}", markup=False, soft_wrap=True)
        return
    with console.status("starting") as status:
        yield lambda chapter, what: status.update(f"[bold]{escape(chapter)}[/bold]: {escape(what)}")

"""Games: learning systems whose field is no gradient."""

ENTRIES = ()

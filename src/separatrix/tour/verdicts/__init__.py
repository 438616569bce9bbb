"""The last section of each chapter: what `diagnose` says of the chapter's own systems."""

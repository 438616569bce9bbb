"""What chapters measure: one file a chapter, and what two of them share."""

"""First- and second-order methods as maps, with their limits; delayed and parallel schemes."""

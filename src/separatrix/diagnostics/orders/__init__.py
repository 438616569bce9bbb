"""The order at which one system approaches another."""

"""Every strategy, by its name; pools of one, of fewer than there are devices, and of more than enough."""

STRATEGIES = ("serial", "depths", "overlapping", "pool:1", "pool:2", "pool:64")

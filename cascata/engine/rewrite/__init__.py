"""Parts of a graph that become extra nodes before it runs: batches, cycles, ordered groups, restarts."""

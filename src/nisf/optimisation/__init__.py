"""The training loop and its parts, independent of the field: state, optimisers, prefetching, compilation."""

"""The training loop and its parts, which know no field: state, optimisers, prefetching, compiling."""

"""One generator of CUDA kernels: what is done to arrays element by element, and sums at the end, in one launch."""

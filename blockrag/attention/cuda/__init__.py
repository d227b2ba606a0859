"""The fast path on CUDA: Triton kernels and a captured graph behind the functions of `blockrag.attention`."""

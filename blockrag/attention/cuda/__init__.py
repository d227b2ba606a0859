"""The fast path on CUDA: Triton kernels in captured graphs, behind the interfaces of `blockrag.attention`."""

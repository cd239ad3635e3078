"""Training's inner loops: sparse where the dense formulation multiplies by zeros.

`sparse.py`     pre-codes and reconstructions at given supports, with gradients
`selection.py`  the k largest sums of scores, without keeping scores
`hiding.py`     dropout whose draws are a hash of item and dimension
`cpu.py`        the CPU backend: `loops.py`, compiled by numba, on the threads of `pool.py`
`cuda.py`       the CUDA backend, in Triton
"""

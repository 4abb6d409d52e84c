"""Linear algebra, with the names of `torch.linalg`.

>>> import fathom
>>> A = fathom.tensor([[2.0, 1.0], [1.0, 3.0]])
>>> fathom.linalg.solve(A, fathom.tensor([3.0, 4.0]))
tensor([1., 1.])
"""

from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops import triangle
from fathom.ops.assemble import powers
from fathom.ops.decompose import (
    EighResult,
    QRResult,
    SVDResult,
    eigh,
    eigvalsh,
    lstsq,
    matrix_rank,
    qr,
    svd,
    svdvals,
)
from fathom.ops.lengths import cond, matrix_norm, norm, vector_norm
from fathom.ops.linalg import matmul
from fathom.ops.matrix_functions import matrix_exp, tensorinv, tensorsolve
from fathom.ops.products import cross, matrix_power, multi_dot, vecdot
from fathom.ops.solve import (
    LinAlgError,
    cholesky,
    cholesky_inverse,
    cholesky_solve,
    det,
    inv,
    logdet,
    pinv,
    slogdet,
    solve,
    solve_triangular,
)

__all__ = [
    "EighResult",
    "LinAlgError",
    "QRResult",
    "SVDResult",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "logdet",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]


def diagonal(A: TensorLike, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of the last two axes, as a new last axis."""
    return triangle.diagonal(A, offset, dim1, dim2)


def vander(x: TensorLike, N: int | None = None) -> Tensor:
    """The powers 0 ... N - 1 of the last axis, as a new last axis: Vandermonde matrices.

    >>> import fathom
    >>> fathom.linalg.vander(fathom.tensor([2.0, 3.0]), N=3)
    tensor([[1., 2., 4.],
            [1., 3., 9.]])
    """
    return powers(x, N)

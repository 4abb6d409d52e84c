"""Operations by family: the primitives and the functions composed of them."""

from fathom.ops import create, elementwise, index, linalg, loss, methods, reduce, shape
from fathom.ops.create import *
from fathom.ops.elementwise import *
from fathom.ops.index import *
from fathom.ops.linalg import *
from fathom.ops.loss import *
from fathom.ops.reduce import *
from fathom.ops.shape import *

methods.attach()

__all__: list[str] = []
__all__ += create.__all__
__all__ += elementwise.__all__
__all__ += index.__all__
__all__ += linalg.__all__
__all__ += loss.__all__
__all__ += reduce.__all__
__all__ += shape.__all__

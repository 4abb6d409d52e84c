"""Operations by family: the primitives and the functions composed of them."""

from fathom.ops import (
    create,
    cumulate,
    einstein,
    elementwise,
    index,
    linalg,
    loss,
    methods,
    order,
    padding,
    products,
    reduce,
    rounding,
    sample,
    shape,
    special,
    tiling,
    triangle,
    trigonometric,
    writing,
)
from fathom.ops.create import *
from fathom.ops.cumulate import *
from fathom.ops.einstein import *
from fathom.ops.elementwise import *
from fathom.ops.index import *
from fathom.ops.linalg import *
from fathom.ops.loss import *
from fathom.ops.order import *
from fathom.ops.padding import *
from fathom.ops.products import *
from fathom.ops.reduce import *
from fathom.ops.rounding import *
from fathom.ops.sample import *
from fathom.ops.shape import *
from fathom.ops.solve import det, logdet, slogdet
from fathom.ops.special import *
from fathom.ops.tiling import *
from fathom.ops.triangle import *
from fathom.ops.trigonometric import *
from fathom.ops.writing import *

methods.attach()

__all__: list[str] = []
__all__ += create.__all__
__all__ += cumulate.__all__
__all__ += elementwise.__all__
__all__ += index.__all__
__all__ += linalg.__all__
__all__ += loss.__all__
__all__ += order.__all__
__all__ += padding.__all__
__all__ += reduce.__all__
__all__ += rounding.__all__
__all__ += writing.__all__
__all__ += shape.__all__
__all__ += special.__all__
__all__ += tiling.__all__
__all__ += trigonometric.__all__
__all__ += einstein.__all__
__all__ += products.__all__
__all__ += sample.__all__
__all__ += ["det", "logdet", "slogdet"]
__all__ += triangle.__all__

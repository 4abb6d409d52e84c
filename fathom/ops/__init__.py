"""Operations by family: the primitives and the functions composed of them."""

from fathom.ops import (
    assemble,
    counting,
    create,
    cumulate,
    distance,
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
    running,
    sample,
    scattering,
    shape,
    special,
    statistics,
    tiling,
    triangle,
    trigonometric,
    writing,
)
from fathom.ops.assemble import *
from fathom.ops.counting import *
from fathom.ops.create import *
from fathom.ops.cumulate import *
from fathom.ops.distance import *
from fathom.ops.einstein import *
from fathom.ops.elementwise import *
from fathom.ops.index import *
from fathom.ops.linalg import *
from fathom.ops.loss import *
from fathom.ops.matrix_functions import matrix_exp
from fathom.ops.order import *
from fathom.ops.padding import *
from fathom.ops.products import *
from fathom.ops.reduce import *
from fathom.ops.rounding import *
from fathom.ops.running import *
from fathom.ops.sample import *
from fathom.ops.scattering import *
from fathom.ops.shape import *
from fathom.ops.solve import det, logdet, slogdet
from fathom.ops.solve import inv as inverse
from fathom.ops.special import *
from fathom.ops.statistics import *
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
__all__ += ["det", "inverse", "logdet", "matrix_exp", "slogdet"]
__all__ += triangle.__all__
__all__ += assemble.__all__
__all__ += counting.__all__
__all__ += distance.__all__
__all__ += running.__all__
__all__ += scattering.__all__
__all__ += statistics.__all__

"""Operations by family: the primitives and the functions composed of them."""

from typing import TYPE_CHECKING

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

if not TYPE_CHECKING:  # a type checker follows the star imports above by itself
    _families = (
        create,
        cumulate,
        elementwise,
        index,
        linalg,
        loss,
        order,
        padding,
        reduce,
        rounding,
        writing,
        shape,
        special,
        tiling,
        trigonometric,
        einstein,
        products,
        sample,
        triangle,
        assemble,
        counting,
        distance,
        running,
        scattering,
        statistics,
    )
    __all__ = [name for family in _families for name in family.__all__]
    __all__ += ["det", "inverse", "logdet", "matrix_exp", "slogdet"]

"""Plans as native code: LLVM IR made here, compiled by llvmlite, called without the interpreter."""

"""What setup.cfg can't say: which modules are compiled.

A module with a ``.pxd`` beside it is: that tells the compiler of what types its attributes are. The module itself is
plain Python, and runs as it is where there is no C compiler, or with ``PURE_PYTHON=1``. What plain Python can't say in
C's terms has a ``.pyx`` beside it that does the same, and is compiled in its place.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

#: Nobody wants warnings about code that is generated, or to debug it; more than -O2 takes longer and gives nothing.
FLAGS = ["-w", "-O2", "-g0"]
DIRECTIVES = {
    # Types are told in the .pxd files, in C's terms; annotations are for people and the type checker.
    "annotation_typing": False,
    "language_level": 3,
    # An attribute of None is an AttributeError, as in Python, and not the end of the process.
    "nonecheck": True,
}


def extensions():
    """The compiled modules; none of them has to succeed."""
    if os.environ.get("PURE_PYTHON"):
        return []
    from Cython.Build import cythonize

    modules = [_source(path) for path in sorted(Path("swarmgate").rglob("*.pxd"))]
    return cythonize(
        [
            Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=FLAGS, optional=True)
            for path in modules
        ],
        build_dir="build",
        compiler_directives=DIRECTIVES,
        quiet=True,
        nthreads=os.cpu_count(),
    )


def _source(declarations):
    """What is compiled, of the module with these *declarations*."""
    in_c_terms = declarations.with_suffix(".pyx")
    return in_c_terms if in_c_terms.exists() else declarations.with_suffix(".py")


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count()}})

"""The numbers of `cublaslt.py` against NVIDIA's headers, where there are some."""

import re
import sys
from pathlib import Path

import pytest

from nnbackend.backend import cublaslt

PREFIXES = {
    cublaslt.DataType: "CUDA_",
    cublaslt.Compute: "CUBLAS_",
    cublaslt.Desc: "CUBLASLT_MATMUL_DESC_",
    cublaslt.Epilogue: "CUBLASLT_EPILOGUE_",
    cublaslt.Layout: "CUBLASLT_MATRIX_LAYOUT_",
    cublaslt.Preference: "CUBLASLT_MATMUL_PREF_",
}
HEADERS = ("cublasLt.h", "cublas_api.h", "library_types.h")
WHEELS = [folder for place in sys.path for folder in Path(place).glob("nvidia/*/include")]
FOLDERS = [*Path("/usr/local").glob("cuda*/include"), *WHEELS]


def header() -> str:
    paths = [folder / name for folder in FOLDERS for name in HEADERS]
    text = "\n".join(path.read_text("latin1") for path in paths if path.exists())
    if "cublasLtMatmul(" not in text:
        pytest.skip("needs cublasLt.h")
    return text


def test_the_numbers_are_those_of_the_header() -> None:
    text, found = header(), dict[str, int]()
    for kind, prefix in PREFIXES.items():
        for member in kind:
            if said := re.search(rf"\b{prefix}{member.name}\s*=\s*([^,}}/]+)", text):
                found[prefix + member.name] = eval(said[1], {}, dict(found))
    assert len(found) >= 20
    assert found == {name: n for kind, p in PREFIXES.items() for n in kind if (name := p + n.name) in found}
    said = re.search(r"CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = (\d)", text)
    assert said is not None
    assert int(said[1]) == cublaslt.REDUCTION_SCHEME_COMPUTE_TYPE


def test_functions_take_what_the_header_says() -> None:
    """As many arguments."""
    text = header()
    for name, takes in cublaslt.FUNCTIONS.items():
        said = re.search(rf"CUBLASWINAPI {name}\((.*?)\);", re.sub(r"//.*|/\*.*?\*/", "", text), re.DOTALL)
        assert said is not None, name
        assert said[1].count(",") + 1 == len(takes), name


def test_structures_have_the_size_of_the_header() -> None:
    """`cublasLtMatmulAlgo_t` is `uint64_t data[8]`, and the result around it is aligned to 8 bytes."""
    assert len(bytes(cublaslt.Algorithm())) == 64
    found = cublaslt.Found
    fields = [getattr(found, name).offset for name in ("algorithm", "workspace", "state", "waves", "reserved")]
    assert (fields, len(bytes(found()))) == ([0, 64, 72, 76, 80], 96)


def test_every_attribute_has_a_type() -> None:
    names = [member.name for kind in (cublaslt.Desc, cublaslt.Layout, cublaslt.Preference) for member in kind]
    assert sorted(names) == sorted(cublaslt.KINDS)

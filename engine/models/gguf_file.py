"""A GGUF file: its metadata as Python values, its tensors as fp32 arrays. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC: Final = b"GGUF"
HINT: Final = "Fetch the file again; it may have been cut off."
# What the reader raises on bytes that are no GGUF: it trusts every count and offset it meets.
READ_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
)


class GgufFile:
    """An open file. `metadata` has the keys of the file; tensors keep llama.cpp's names."""

    def __init__(self, path: Path) -> None:
        """Raises: ModelError for a file that is missing, foreign, cut off or corrupt."""
        _check_magic(path)
        from gguf import GGUFReader

        self.path = path
        try:
            reader = GGUFReader(path)
            self.metadata: Mapping[str, Any] = {
                key: field.contents() for key, field in reader.fields.items()
            }
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        except READ_ERRORS as error:
            raise ModelError(f"{path} is a damaged GGUF file: {_reason(error)}", HINT) from error

    @property
    def tensor_names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first, as torch has it. Raises: ModelError when there is no such tensor."""
        return tuple(int(n) for n in reversed(self._tensor(name).shape))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A tensor's values, dequantised. Raises: ModelError."""
        import numpy as np
        from gguf import dequantize

        tensor = self._tensor(name)
        try:
            values = dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise ModelError(
                f"{self.path}: tensor {name} has type {tensor.tensor_type.name},"
                " which cannot be read",
                "Take a Q4_0, Q4_1, Q5, Q8_0 or K-quant file of the model.",
            ) from error
        except READ_ERRORS as error:
            raise ModelError(f"{self.path}: tensor {name} is damaged", HINT) from error
        return np.array(values, dtype=np.float32).reshape(self.shape(name))

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            raise ModelError(f"{self.path} lacks tensor {name}", HINT)
        return self._tensors[name]


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", "Name an existing .gguf file."
        ) from error
    if start != MAGIC:
        raise ModelError(f"{path} is not a GGUF file", "Its first four bytes are not 'GGUF'.")


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""The seam between the model and the machine: the same calls on a CPU and on CUDA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor

    from engine.batch import Batch
    from engine.kv.formats import RecordLayout
    from engine.models.progress import Progress
    from engine.sampling import SamplingStep


class LayerPool(NamedTuple):
    """One layer's pages, both (num_pages, H_kv, block_size, D); the strides are the backend's."""

    k: Tensor
    v: Tensor


class Hidden(NamedTuple):
    """The hidden states between two layers, (T, hidden): the sum of both, with None as nothing.

    A product may be left pending, for whoever normalises the sum next to add it in one pass.
    """

    residual: Tensor
    pending: Tensor | None = None

    def copy(self) -> Hidden:
        return Hidden(self.residual.clone(), None if self.pending is None else self.pending.clone())

    def rows(self, index: Tensor) -> Hidden:
        """Copies of the rows that `index` names."""
        pending = None if self.pending is None else self.pending[index]
        return Hidden(self.residual[index], pending)


class Linear(Protocol):
    """A weight (out, in) in the form the backend multiplies fastest; owns its packed copy."""

    def __call__(self, x: Tensor) -> Tensor: ...


class NormLinear(Protocol):
    """Reads the residual stream: a norm and the product that follows it."""

    def __call__(self, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """The product of the normalised states, and the states with nothing pending.

        May write into `hidden`, which the caller gives up.
        """
        ...


class ResidualLinear(Protocol):
    """Writes to the residual stream: a product that joins it."""

    def __call__(self, x: Tensor, hidden: Hidden) -> Hidden:
        """`hidden`, in which nothing may be pending, plus the product; may write into it."""
        ...


class Backend(Protocol):
    """The operations of a decoder that differ by machine. Hidden states are (T, hidden)."""

    device: torch.device
    dtype: torch.dtype

    def norm_linear(
        self, norm_weight: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> NormLinear:
        """rms_norm(hidden) @ weight.T + bias; `weight` may be dropped by the caller, here and
        below."""
        ...

    def norm_gated_linear(
        self, norm_weight: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> NormLinear:
        """silu(gate) * up (T, I), where [gate | up] is what norm_linear gives and `weight` is
        (2 I, hidden)."""
        ...

    def residual_linear(self, weight: Tensor, bias: Tensor | None) -> ResidualLinear:
        """hidden + x @ weight.T + bias."""
        ...

    def allocate_pool(
        self, num_pages: int, num_kv_heads: int, block_size: int, head_dim: int
    ) -> LayerPool: ...

    def allocate_packed_pool(
        self, num_wide: int, num_packed: int, num_kv_heads: int, layout: RecordLayout
    ) -> LayerPool:
        """The layer's wide pages, with packed ones beside them. Raises: EngineError where the
        device has no kernels for them."""
        ...

    def compiling_ahead(self, progress: Progress) -> AbstractContextManager[None]:
        """Within it a pass has its kernels compiled instead of run, where they have a compiler;
        its end waits for that. What such a pass gives is made up."""
        ...

    def prepare(self, pools: list[LayerPool]) -> None:
        """May have the memory of all of a model's pools made ready before its use; never waits."""
        ...

    def backed_bytes(self, pools: list[LayerPool]) -> int:
        """How many bytes of the pools are memory already, whether used or not."""
        ...

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / rms(x) * weight over the last axis, the mean in fp32. x is (..., N)."""
        ...

    def plan(self, batch: Batch, num_heads: int, num_kv_heads: int, head_dim: int) -> Any:
        """What all layers of one pass share (masks, index tensors, split counts), handed back."""
        ...

    def rope_and_write(
        self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, pool: LayerPool, plan: Any
    ) -> Tensor:
        """Rotates q and k (rotate-half pairs i, i + D/2), stores k and v at the batch's slots, then
        packs the pages that it seals.

        q (T, H, D), k and v (T, H_kv, D) may be strided views; cos and sin (max_len, D/2) fp32 are
        looked up at the batch's positions. Returns the rotated q.
        """
        ...

    def attend(
        self, q: Tensor, pool: LayerPool, plan: Any, scale: float, window: int | None
    ) -> Tensor:
        """Causal attention of each token over its sequence's pages; (T, H * D).

        `window` w lets a token see itself and the w - 1 before it.
        """
        ...

    def named(self) -> AbstractContextManager[None]:
        """Within it torch's profiler is told the names of loops that are not torch's."""
        ...

    def sample(self, logits: Tensor, step: SamplingStep) -> Tensor:
        """One token per row of `logits` (S, V), which stay as they are; (S,) int64, on `device`."""
        ...


def create_backend(
    device: torch.device, dtype: torch.dtype | None, num_threads: int | None
) -> Backend:
    """The Triton backend on CUDA, the CPU's own elsewhere. `dtype` None lets it choose."""
    if device.type == "cuda":
        import torch

        from engine.kernels.backend import TritonBackend

        return TritonBackend(device, dtype or torch.bfloat16)
    from engine.cpu.backend import CpuBackend

    return CpuBackend(dtype, num_threads)

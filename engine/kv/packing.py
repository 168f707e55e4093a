"""Full pages to records and back, in torch: what the CPU does, and what kernels must equal.

Source: per-channel K and per-token V as in Liu et al., KIVI, 2024; here a K channel's group is one
page, so that pages stay independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from engine.kv.formats import META_BYTES, CodeFormat, RecordLayout

if TYPE_CHECKING:
    from torch import Tensor

FP16_MAX: Final = 65504.0
E4M3_MAX: Final = 448.0


class Codes(NamedTuple):
    """Unsigned codes (..., T, D) uint8, and what turns them back, each broadcasting to that shape.

    `least` is None where codes are symmetric or floats.
    """

    codes: Tensor
    scale: Tensor
    least: Tensor | None


def pack(k: Tensor, v: Tensor, layout: RecordLayout) -> Tensor:
    """Records (..., layout.num_bytes) uint8 of k and v (..., T, D), T being a page's tokens."""
    records = k.new_zeros(*k.shape[:-2], layout.num_bytes, dtype=torch.uint8)
    key, value = layout.format.key, layout.format.value
    k_codes, k_meta = _pack(k, key)
    v_codes, v_meta = _pack(v, value)
    _put(records, 0, k_codes.transpose(-1, -2))
    _put(records, layout.value_at, v_codes)
    _put(records, layout.key_meta_at, k_meta)
    _put(records, layout.value_meta_at, v_meta)
    return records


def unpack(records: Tensor, layout: RecordLayout, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """K and V (..., T, D) in fp32, as attention sees them; `dtype` is that of unpacked elements."""
    size, head_dim = layout.block_size, layout.head_dim
    key, value = layout.format.key, layout.format.value
    k_rows = key.code_bytes(size, head_dim, dtype.itemsize) // size
    v_rows = value.code_bytes(size, head_dim, dtype.itemsize) // size
    if key.is_packed:
        k_bytes = records[..., : k_rows * size].unflatten(-1, (k_rows, size)).transpose(-1, -2)
    else:
        k_bytes = _transposed_elements(records[..., : k_rows * size], head_dim, dtype)
    v_end = layout.value_at + v_rows * size
    v_bytes = records[..., layout.value_at : v_end].unflatten(-1, (size, v_rows))
    k_meta = records[..., layout.key_meta_at : layout.value_meta_at]
    v_meta = records[..., layout.value_meta_at :]
    return (
        _unpack(k_bytes, k_meta, key, size, head_dim, dtype),
        _unpack(v_bytes, v_meta, value, size, head_dim, dtype),
    )


def quantise(x: Tensor, form: CodeFormat) -> Codes:
    """Codes of x (..., T, D), which is finite after clamping to fp16's range.

    The scale is rounded to fp16 first, so that codes are nearest under the very scale that turns
    them back. A constant group has scale 0 and code 0 (or the middle one).
    """
    x = x.float().nan_to_num(0.0, FP16_MAX, -FP16_MAX).clamp(-FP16_MAX, FP16_MAX)
    grouped = _grouped(x, form)
    axis = -2 if form.axis == "channel" else -1
    if form.kind == "float":
        scale = _to_fp16(grouped.abs().amax(axis, keepdim=True) / E4M3_MAX)
        scaled = _divided(grouped, scale).clamp(-E4M3_MAX, E4M3_MAX)
        codes = scaled.to(torch.float8_e4m3fn).view(torch.uint8)
        return Codes(codes.view(x.shape), _spread(scale, x, form), None)
    top = (1 << form.nbits) - 1
    if not form.has_least:
        middle = 1 << (form.nbits - 1)
        scale = _to_fp16(grouped.abs().amax(axis, keepdim=True) / (middle - 1))
        steps = _divided(grouped, scale).round().clamp(1 - middle, middle - 1)
        return Codes((steps + middle).to(torch.uint8).view(x.shape), _spread(scale, x, form), None)
    least = _to_fp16(grouped.amin(axis, keepdim=True))
    # Of two clamped ends the difference may be beyond fp16; a step of it never is.
    scale = _to_fp16((grouped.amax(axis, keepdim=True) - least).clamp_min(0.0) / top)
    codes = _divided(grouped - least, scale).round().clamp(0, top).to(torch.uint8)
    return Codes(codes.view(x.shape), _spread(scale, x, form), _spread(least, x, form))


def dequantise(codes: Codes, form: CodeFormat) -> Tensor:
    """Elements (..., T, D) fp32: code * scale + least, in this order, each rounded."""
    if form.kind == "float":
        return codes.codes.view(torch.float8_e4m3fn).float() * codes.scale
    if codes.least is None:
        return (codes.codes.float() - (1 << (form.nbits - 1))) * codes.scale
    return codes.codes.float() * codes.scale + codes.least


def _pack(x: Tensor, form: CodeFormat) -> tuple[Tensor, Tensor]:
    """Rows of elements or bytes (..., T, n), and the meta (..., m) fp16."""
    if not form.is_packed:
        return x, x.new_zeros(*x.shape[:-2], 0, dtype=torch.float16)
    codes = quantise(x, form)
    parts = [codes.scale] if codes.least is None else [codes.scale, codes.least]
    meta = torch.cat([_meta_of(part, form) for part in parts], -1)
    return _merged(codes.codes, form.nbits), meta.half()


def _unpack(
    rows: Tensor, meta: Tensor, form: CodeFormat, size: int, head_dim: int, dtype: torch.dtype
) -> Tensor:
    if not form.is_packed:
        return rows.contiguous().view(dtype).float()
    count = form.num_scales(size, head_dim)
    numbers = meta[..., : META_BYTES * count * (1 + form.has_least)].contiguous()
    parts = numbers.view(torch.float16).float().unflatten(-1, (1 + form.has_least, count))
    spread = [_spread_meta(parts[..., i, :], form, size, head_dim) for i in range(parts.shape[-2])]
    codes = Codes(_parted(rows, form.nbits), spread[0], spread[1] if form.has_least else None)
    return dequantise(codes, form)


def _merged(codes: Tensor, nbits: int) -> Tensor:
    """Codes (..., D) to bytes (..., D * nbits / 8): equal parts of a row lie above each other."""
    parts = codes.chunk(8 // nbits, -1)
    merged = parts[0].clone()
    for place, part in enumerate(parts[1:], 1):
        merged |= part << (place * nbits)
    return merged


def _parted(rows: Tensor, nbits: int) -> Tensor:
    mask = (1 << nbits) - 1
    return torch.cat([(rows >> shift) & mask for shift in range(0, 8, nbits)], -1)


def _grouped(x: Tensor, form: CodeFormat) -> Tensor:
    if form.axis == "channel":
        return x
    return x.unflatten(-1, (-1, form.group or x.shape[-1]))


def _spread(meta: Tensor, x: Tensor, form: CodeFormat) -> Tensor:
    """What a group shares, once an element (or once a channel)."""
    if form.axis == "channel":
        return meta
    return meta.expand(*meta.shape[:-1], form.group or x.shape[-1]).reshape(x.shape)


def _meta_of(spread: Tensor, form: CodeFormat) -> Tensor:
    """(..., m): channels, or groups first and tokens last."""
    if form.axis == "channel":
        return spread[..., 0, :]
    return spread[..., :: form.group or spread.shape[-1]].transpose(-1, -2).flatten(-2)


def _spread_meta(meta: Tensor, form: CodeFormat, size: int, head_dim: int) -> Tensor:
    if form.axis == "channel":
        return meta[..., None, :]
    by_token = meta.unflatten(-1, (-1, size)).transpose(-1, -2)
    return by_token.repeat_interleave(form.group or head_dim, -1)


def _to_fp16(x: Tensor) -> Tensor:
    return x.clamp(-FP16_MAX, FP16_MAX).half().float()


def _divided(x: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale > 0, x / scale.where(scale > 0, 1.0), 0.0)


def _transposed_elements(records: Tensor, head_dim: int, dtype: torch.dtype) -> Tensor:
    """K (..., D, T) as stored, to (..., T, D * itemsize) bytes."""
    elements = records.contiguous().view(dtype).unflatten(-1, (head_dim, -1))
    return elements.transpose(-1, -2).contiguous().view(torch.uint8)


def _put(records: Tensor, at: int, part: Tensor) -> None:
    flat = part.contiguous().flatten(records.dim() - 1).view(torch.uint8)
    records[..., at : at + flat.shape[-1]] = flat

"""Vectors of floats inside compiled loops: what numba cannot say and LLVM can.

Addresses are plain integers. LLVM cuts the vectors into the registers that the processor has.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Tokens of context that are worked on at once, and columns of a panel of V: 64 floats are four
# AVX-512 registers, eight of AVX2, which hides the latency of a multiplication.
LANES = 64
LANE_BYTES = 4 * LANES
VECTOR = 16


def _pointer(dtype):
    @intrinsic
    def pointer(typingctx, address):
        sig = types.CPointer(dtype)(types.int64)

        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

        return sig, generate

    return pointer


bytes_at = _pointer(types.uint8)
floats_at = _pointer(types.float32)
halves_at = _pointer(types.uint16)
ints_at = _pointer(types.int32)
longs_at = _pointer(types.int64)

_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_PANEL, _FLOATS = ir.VectorType(_F32, LANES), ir.VectorType(_F32, VECTOR)
_WIDE = ir.VectorType(_I32, VECTOR)


def _reinterpret(source, target, generate):
    """An intrinsic from one scalar type to another."""

    @intrinsic
    def convert(typingctx, x):
        return target(source), lambda context, builder, signature, args: generate(builder, args[0])

    return convert


def _from_bf16(builder, x):
    wide = builder.zext(x, _WIDE if isinstance(x.type, ir.VectorType) else _I32)
    sixteen = ir.Constant(wide.type, [16] * VECTOR if wide.type is _WIDE else 16)
    return builder.bitcast(builder.shl(wide, sixteen), _FLOATS if wide.type is _WIDE else _F32)


from_bf16 = _reinterpret(types.uint16, types.float32, _from_bf16)
from_fp16 = _reinterpret(
    types.uint16, types.float32, lambda b, x: b.fpext(b.bitcast(x, ir.HalfType()), _F32)
)
to_fp16 = _reinterpret(
    types.float32, types.uint16, lambda b, x: b.bitcast(b.fptrunc(x, ir.HalfType()), _I16)
)
as_float = _reinterpret(types.int32, types.float32, lambda b, x: b.bitcast(x, _F32))
as_int = _reinterpret(types.float32, types.int32, lambda b, x: b.bitcast(x, _I32))


def _load(builder, address, element, lanes, align):
    kind = ir.VectorType(element, lanes)
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def _store(builder, value, address):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 64


def _widening(element, convert):
    """An intrinsic that stores VECTOR elements at `source` as floats at `target`."""

    @intrinsic
    def widen(typingctx, source, target):
        def generate(context, builder, signature, args):
            vector = _load(builder, args[0], element, VECTOR, 2)
            _store(builder, convert(builder, vector), args[1])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return widen


widen_bf16 = _widening(_I16, _from_bf16)
widen_fp16 = _widening(ir.HalfType(), lambda builder, x: builder.fpext(x, _FLOATS))
widen_fp32 = _widening(_F32, lambda builder, x: x)


@intrinsic
def add_products(typingctx, y, w, m, rows):
    """y[:LANES] += w[:rows] @ m[:rows, :LANES], all fp32, y in registers all the while."""

    def generate(context, builder, signature, args):
        y, w, m, rows = args
        total = cgutils.alloca_once(builder, _PANEL)
        builder.store(_load(builder, y, _F32, LANES, 64), total)
        kind = ir.FunctionType(_PANEL, [_PANEL] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
        nothing = ir.Constant(_PANEL, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        weights = builder.inttoptr(w, _F32.as_pointer())
        with cgutils.for_range(builder, rows) as loop:
            weight = builder.load(builder.gep(weights, [loop.index]))
            first = builder.insert_element(nothing, weight, ir.Constant(_I32, 0))
            splat = builder.shuffle_vector(first, nothing, everywhere)
            offset = builder.mul(loop.index, ir.Constant(_I64, LANE_BYTES))
            row = _load(builder, builder.add(m, offset), _F32, LANES, 64)
            builder.store(builder.call(fma, [splat, row, builder.load(total)]), total)
        _store(builder, builder.load(total), y)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def prefetch_line(typingctx, address):
    """Asks for a line of the cache that will be read soon."""

    def generate(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        to_read, into_l3, data = (ir.Constant(_I32, word) for word in (0, 1, 1))
        builder.call(call, [builder.inttoptr(args[0], byte), to_read, into_l3, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def take(typingctx, counter):
    """The next number of a counter that all threads share."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", args[0], ir.Constant(_I64, 1), "monotonic")

    return types.int64(types.CPointer(types.int64)), generate

"""Formats by layer, from a name or a YAML file that other tools write too.

0: {nbits_key: 8, nbits_value: 4}
1: {nbits_key: 4, nbits_value: 2, axis: channel, asym: true, q_group_size: 32}

Names as KVTuner has them; layers that the file leaves out are not packed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engine.errors import EngineError
from engine.kv.formats import FP8_KEY, FP8_VALUE, KV_FORMATS, UNPACKED, CodeFormat, KVFormat

MAX_FILE_BYTES: Final = 1 << 20
_HINT: Final = "A line is: 0: {nbits_key: 8, nbits_value: 4}"

Bits = Literal[16, 8, 4, 2]


class LayerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One layer of the file. `axis` is K's, `q_group_size` V's; `kind` "float" makes 8 bits fp8."""

    nbits_key: Bits
    nbits_value: Bits
    axis: Literal["channel", "token"] = "channel"
    asym: bool = True
    q_group_size: int | None = None
    kind: Literal["int", "float"] = "int"

    def format(self) -> KVFormat:
        floats = self.kind == "float"
        key = CodeFormat(self.nbits_key, "int", self.axis, self.asym)
        value = CodeFormat(self.nbits_value, "int", "token", self.asym, self.q_group_size)
        return KVFormat(
            FP8_KEY if floats and self.nbits_key == 8 else _or_unpacked(key),
            FP8_VALUE if floats and self.nbits_value == 8 else _or_unpacked(value),
        )

    @classmethod
    def of(cls, form: KVFormat) -> LayerEntry:
        key, value = form.key, form.value
        has_float = "float" in (key.kind, value.kind)
        asym = has_float or (key.asym if key.is_packed else value.asym)
        axis = key.axis if key.is_packed else "channel"
        kind: Literal["int", "float"] = "float" if has_float else "int"
        return cls(key.nbits, value.nbits, axis, asym, value.group, kind)


def layer_formats(name: str, file: str | None, num_layers: int) -> list[KVFormat]:
    """Each layer's format: `file`'s if there is one, else that of `name`.

    Raises: EngineError.
    """
    if file is None:
        return [KV_FORMATS[name]] * num_layers
    if name != "auto":
        raise EngineError(
            "--kv-config and --kv-cache-dtype both say how the KV cache is stored",
            "Give one of them.",
        )
    entries = read_kv_config(Path(file))
    unknown = [layer for layer in entries if not 0 <= layer < num_layers]
    if unknown:
        raise EngineError(
            f"{file} names layer {unknown[0]}; the model has layers 0 to {num_layers - 1}", _HINT
        )
    unpacked = KV_FORMATS["auto"]
    return [
        entries[layer].format() if layer in entries else unpacked for layer in range(num_layers)
    ]


def read_kv_config(path: Path) -> dict[int, LayerEntry]:
    """Raises: EngineError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise EngineError(f"{path} is larger than a list of layers can be", _HINT)
        told: Any = msgspec.yaml.decode(path.read_bytes())
        return msgspec.convert(told, dict[int, LayerEntry], strict=False)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", "") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0]
        raise EngineError(f"{path} is no list of formats by layer: {said}", _HINT) from error


def config_text(formats: list[KVFormat], heading: str) -> str:
    """The file that gives these; `heading` goes before them as a comment."""
    lines = [f"# {line}" for line in heading.splitlines()]
    for layer, form in enumerate(formats):
        fields = msgspec.to_builtins(LayerEntry.of(form))
        said = ", ".join(f"{name}: {_plain(value)}" for name, value in fields.items())
        lines.append(f"{layer}: {{{said}}}")
    return "\n".join(lines) + "\n"


def _or_unpacked(form: CodeFormat) -> CodeFormat:
    return form if form.is_packed else UNPACKED


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

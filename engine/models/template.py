"""The chat template that comes with a model, run in a sandbox: it is someone else's code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import InvalidRequestError, ModelError
from engine.models.config import read_json

PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


class ChatTemplate:
    """`source` is Jinja, "" a plain "role: text" form; `tokens` names such as bos_token."""

    def __init__(self, source: str, tokens: Mapping[str, str] | None = None) -> None:
        self._source = source or PLAIN
        self._tokens = dict(tokens or {})

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        """The prompt. Raises: InvalidRequestError, ModelError when the template is broken."""
        import jinja2

        try:
            text: str = self._template.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
            )
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(f"The chat template is broken: {error}") from error
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            raise InvalidRequestError(f"chat template: {error}", "messages") from error
        return text

    @cached_property
    def _template(self) -> Any:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self._source)


def read_template(folder: Path) -> ChatTemplate:
    """The template of a model folder: its own file, or the entry in tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    tokens = {
        key: _content(settings[key])
        for key in ("bos_token", "eos_token", "pad_token", "unk_token")
        if settings.get(key) is not None
    }
    own_file = folder / "chat_template.jinja"
    if own_file.is_file():
        return ChatTemplate(own_file.read_text(encoding="utf-8"), tokens)
    return ChatTemplate(_named(settings.get("chat_template")), tokens)


def _named(template: Any) -> str:
    """A template may be a list of named ones: the one called "default" counts."""
    if isinstance(template, list):
        by_name = {entry["name"]: entry["template"] for entry in template}
        return str(by_name.get("default", ""))
    return str(template or "")


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)

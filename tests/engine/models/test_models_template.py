"""A chat template is someone else's program: it gets what it expects and nothing more."""

from __future__ import annotations

import json

import pytest

from engine.errors import InvalidRequestError, ModelError
from engine.models.template import ChatTemplate, read_template

HELLO = [{"role": "user", "content": "hello"}]


def test_a_model_without_template_gets_roles_and_colons():
    assert ChatTemplate("").render(HELLO, True) == "user: hello\nassistant:"


def test_templates_find_the_names_they_expect():
    source = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'x' %}{% continue %}{% endif %}"
        "{{ m | tojson }}{% endfor %}{{ strftime_now('%Y') | length }}"
    )
    template = ChatTemplate(source, {"bos_token": "<s>"})
    rendered = template.render([{"role": "x", "content": ""}, {"content": "é<"}], False)
    assert rendered == '<s>{"content": "é<"}4'


def test_a_refusal_reaches_the_client():
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="roles must alternate") as caught:
        template.render(HELLO, True)
    assert caught.value.param == "messages"


def test_a_broken_template_is_the_models_fault():
    with pytest.raises(ModelError, match="broken"):
        ChatTemplate("{% for %}").render(HELLO, True)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack):
    with pytest.raises(InvalidRequestError):
        ChatTemplate(attack).render(HELLO, True)


def test_messages_without_content_are_the_clients_fault():
    with pytest.raises(InvalidRequestError):
        ChatTemplate("{{ 'a' + messages[0].content }}").render([{"role": "user"}], True)


def test_templates_are_found_where_models_keep_them(tmp_path):
    settings = tmp_path / "tokenizer_config.json"
    assert read_template(tmp_path).render(HELLO, False) == "user: hello\n"
    settings.write_text(json.dumps({"chat_template": "one", "bos_token": {"content": "<s>"}}))
    assert read_template(tmp_path).render(HELLO, False) == "one"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    settings.write_text(json.dumps({"chat_template": named}))
    assert read_template(tmp_path).render(HELLO, False) == "d"
    (tmp_path / "chat_template.jinja").write_text("own file")
    assert read_template(tmp_path).render(HELLO, False) == "own file"

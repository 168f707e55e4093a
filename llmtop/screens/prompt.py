"""The prompt box: ask the served model, and see how fast it answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import ModalScreen
from textual.widgets import Input

from llmtop.chat import MAX_TOKENS, Chat, ChatError
from llmtop.privacy import Privacy
from llmtop.sanitize import clean_line
from llmtop.widgets.conversation import Exchange, conversation_rows
from llmtop.widgets.scrolled import Scrolled

MAX_QUESTION: Final = 16_000
_PAINT_EVERY_S: Final = 0.1


class PromptScreen(ModalScreen[None]):
    """Enter asks. Esc cancels the answer under way, then closes the box and its conversation.

    While `privacy` is on, question and answer are masked.
    """

    DEFAULT_CSS = """
    PromptScreen { align: center bottom; }
    PromptScreen Container { width: 1fr; max-width: 104; height: 70%; min-height: 12;
        margin: 1 1; padding: 0 1; border: round $primary; background: $surface; }
    PromptScreen Input { height: 1; border: none; padding: 0; background: $surface; }
    PromptScreen Input:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel"),
        Binding("pageup", "scroll_lines(-8)", show=False),
        Binding("pagedown", "scroll_lines(8)", show=False),
    ]

    def __init__(self, base_url: str, api_key: str | None, privacy: Privacy) -> None:
        super().__init__()
        self._privacy = privacy
        self._masked = privacy.on
        self._chat = Chat(base_url, api_key)
        self._exchanges: list[Exchange] = []
        self._asking: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        with Container(id="prompt-box"):
            yield Scrolled(id="prompt-answers", follow=True)
            yield Input(
                placeholder="ask the model",
                max_length=MAX_QUESTION,
                password=self._masked,
                id="prompt-question",
            )

    def on_mount(self) -> None:
        self.query_one(
            "#prompt-box"
        ).border_title = f"Prompt, answers of at most {MAX_TOKENS} tokens"
        self.query_one(Input).focus()
        self.set_interval(_PAINT_EVERY_S, self._paint_answer)
        self._paint()

    async def on_unmount(self) -> None:
        self._stop()
        await self._chat.__aexit__(None, None, None)

    @property
    def exchanges(self) -> list[Exchange]:
        return self._exchanges

    @property
    def answering(self) -> bool:
        return self._asking is not None and not self._asking.done()

    def on_input_submitted(self, message: Input.Submitted) -> None:
        question = clean_line(message.value).strip()
        if not question or self.answering:
            return
        message.input.clear()
        exchange = Exchange(question)
        self._exchanges.append(exchange)
        self._asking = asyncio.create_task(self._answer(exchange))
        self._asking.add_done_callback(lambda _: self._paint())
        self._paint()

    async def _answer(self, exchange: Exchange) -> None:
        self._chat.timing = None
        try:
            async with aclosing(self._chat.ask(exchange.question)) as pieces:
                async for piece in pieces:
                    exchange.timing = self._chat.timing
                    exchange.answer += piece
            exchange.state = "answered"
        except ChatError as error:
            exchange.state = clean_line(str(error))
        except asyncio.CancelledError:
            exchange.state = "cancelled"
            raise

    def action_cancel(self) -> None:
        if self.answering:
            self._stop()
        else:
            self.dismiss()

    def action_scroll_lines(self, by: int) -> None:
        self.query_one(Scrolled).scroll_lines(by)

    def on_resize(self) -> None:
        self.call_after_refresh(self._paint)

    def _stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def _paint_answer(self) -> None:
        if self.answering or self._masked != self._privacy.on:
            self._paint()

    def _paint(self) -> None:
        if not self.is_mounted:
            return
        answers = self.query_one(Scrolled)
        self.query_one(Input).password = self._masked = self._privacy.on
        answers.show(conversation_rows(self._exchanges, answers.size.width, self._privacy))
        escape = "Esc cancels" if self.answering else "Enter asks, Esc closes"
        self.query_one("#prompt-box").border_subtitle = f"{escape}, PgUp PgDn scroll"

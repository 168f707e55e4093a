"""The engine as the HTTP side sees it: orders in, pieces of text out, whatever the core does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Literal, NamedTuple, Protocol

from engine.errors import EngineError, InvalidRequestError, QueueFullError
from engine.models.tokenizer import Tokenizer
from engine.output import OutputProcessor, SampleUpdate
from engine.request import EngineRequest, TokenOutput
from engine.server.generation import Generation, Order
from engine.server.http_errors import HttpError, NotServingError
from engine.server.outbox import Outbox
from engine.server.wire import Refused
from engine.validation import check_request
from profiler.events import SessionStart

State = Literal["starting", "ready", "silent", "draining", "failed"]

ENDED_WELL: Final = ("stop", "length")


class Core(Protocol):
    """What is needed of `engine.server.client.CoreClient`."""

    def add(self, request: EngineRequest) -> None: ...
    def abort(self, request: int, reason: str) -> None: ...
    def finish(self, request: int, reason: str) -> None: ...
    def capture(self, num_steps: int) -> None: ...
    def measure_observer(self) -> None: ...


class ServedModel(NamedTuple):
    """`names` are what clients may call the model; the first is its own."""

    names: tuple[str, ...]
    tokenizer: Tokenizer
    session: SessionStart

    def check_name(self, name: str | None) -> None:
        """Raises: HttpError 404 if `name` is given and is not this model's."""
        if name is not None and name not in self.names:
            raise HttpError(
                404,
                f"The model {name!r} does not exist; this server has {self.names[0]!r}",
                param="model",
                code="model_not_found",
            )


class AsyncEngine:
    """Numbers requests and hands the core's outputs to the generations they belong to.

    Lives on the event loop. Every generation ends: done, cancelled, or failed with an EngineError.
    """

    def __init__(self) -> None:
        self.state: State = "starting"
        self.outbox = Outbox()
        self._core: Core | None = None
        self._model: ServedModel | None = None
        self._texts: OutputProcessor | None = None
        self._num_requests = 0
        self._owners: dict[int, Generation] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def model(self) -> ServedModel:
        """Raises: NotServingError before the engine was ready."""
        if self._model is None:
            raise self._refusal()
        return self._model

    @property
    def num_unfinished(self) -> int:
        return len(self._owners)

    def serve(self, core: Core, model: ServedModel) -> None:
        """The core is ready: take orders from now on."""
        self._core, self._model = core, model
        self._texts = OutputProcessor(model.tokenizer)
        if self.state == "starting":
            self.state = "ready"

    def generate(self, order: Order) -> Generation:
        """The order's generation, handed to the core.

        Raises: NotServingError, InvalidRequestError.
        """
        core, model, texts = self._core, self.model, self._texts
        if self.state != "ready" or core is None or texts is None:
            raise self._refusal()
        generation = Generation(order, self._num_requests + 1, model.tokenizer.eos_ids)
        for request in generation.requests:
            check_request(request, model.session.max_model_len, model.tokenizer.vocab_size)
        self._num_requests += len(generation.requests)
        self._idle.clear()
        for request in generation.requests:
            self._owners[request.request] = generation
            texts.add(request)
            core.add(request)
        return generation

    def cancel(self, generation: Generation, reason: str) -> None:
        """Drops what is unfinished of a generation; one that is done is left alone."""
        for number in sorted(generation.unfinished):
            if self._forget(number) is not None and self._core is not None:
                self._core.abort(number, reason)

    def capture(self, num_steps: int) -> None:
        """Has the core tell the kernels of its next steps. Raises: NotServingError."""
        self._ready_core().capture(num_steps)

    def measure_observer(self) -> None:
        """Has the core tell what being observed costs. Raises: NotServingError."""
        self._ready_core().measure_observer()

    def _ready_core(self) -> Core:
        if self.state != "ready" or self._core is None:
            raise self._refusal()
        return self._core

    def take(self, outputs: list[TokenOutput]) -> None:
        """Hands what each output adds to its generation; those of cancelled requests are lost."""
        for update in self._texts.process(outputs) if self._texts is not None else ():
            generation = self._owners[update.request]
            reason = update.finish_reason
            if reason is None:
                generation.take(update)
            elif reason in ENDED_WELL:
                self._end(update)
                generation.take(update)
            else:
                self._fail(generation, EngineError(f"the engine gave up the request: {reason}"))

    def _end(self, update: SampleUpdate) -> None:
        self._forget(update.request)
        if update.ended_by_text and self._core is not None:
            self._core.finish(update.request, "stop")

    def refuse(self, refused: Refused) -> None:
        """The core did not take a request: its whole generation fails."""
        generation = self._forget(refused.request)
        if generation is None:
            return
        generation.unfinished.discard(refused.request)
        if refused.queue_full:
            self._fail(generation, QueueFullError(refused.message))
        else:
            self._fail(generation, InvalidRequestError(refused.message, refused.param))

    def hush(self, silent: bool) -> None:
        """The core has gone silent, or speaks again: orders are refused meanwhile, none is lost."""
        if self.state in ("ready", "silent"):
            self.state = "silent" if silent else "ready"

    def fail(self, error: EngineError) -> None:
        """The core is gone: every generation ends with `error`."""
        self.state = "failed"
        self._core = None
        for generation in list(dict.fromkeys(self._owners.values())):
            self._fail(generation, error)

    async def drain(self, timeout_s: float) -> None:
        """Takes no more orders and waits until those in flight have ended, or the time is up."""
        if self.state != "failed":
            self.state = "draining"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    def drop_all(self, reason: str) -> None:
        """Ends what is still in flight without its answer."""
        for generation in list(dict.fromkeys(self._owners.values())):
            self.cancel(generation, reason)
            generation.fail(NotServingError("the server was stopped before the answer was whole"))

    def _fail(self, generation: Generation, error: EngineError) -> None:
        self.cancel(generation, f"error: {error.message}")
        generation.fail(error)

    def _forget(self, number: int) -> Generation | None:
        generation = self._owners.pop(number, None)
        if self._texts is not None:
            self._texts.drop(number)
        if not self._owners:
            self._idle.set()
        return generation

    def _refusal(self) -> NotServingError:
        match self.state:
            case "failed":
                return NotServingError("the engine has failed and the server is stopping")
            case "silent":
                return NotServingError("the engine core does not answer at the moment")
            case "draining":
                return NotServingError("the server is shutting down")
            case _:
                return NotServingError("the model is still being loaded")

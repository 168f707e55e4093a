"""The offline API: a model in the caller's own process.

from engine.llm import LLM
from engine.config import SamplingParams

llm = LLM("smollm2-135m-instruct")
for output in llm.generate(["The capital of France is"], SamplingParams(max_tokens=20)):
    print(output.samples[0].text)
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from platformdirs import user_cache_path

from engine.config import EngineConfig, SamplingParams, SchedulerConfig
from engine.core import EngineCore
from engine.errors import EngineError, InvalidRequestError
from engine.loading import Loader, load_model
from engine.models.progress import Progress, silent
from engine.models.tokenizer import Tokenizer
from engine.output import OutputProcessor, SampleUpdate, sample_params
from engine.request import EngineRequest, TokenLogprobs
from engine.validation import check_params
from profiler.events import AnyEvent

Prompt = str | Sequence[int]
Message = dict[str, str]


@dataclass(slots=True)
class Sample:
    """One continuation. `finish_reason` is None while it grows, then "stop" or "length".

    `stop_reason` is the stop string or stop token id behind a "stop", None for the end of text.
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


@dataclass(slots=True)
class RequestOutput:
    """A prompt and its `n` samples so far. `prompt_logprobs` has None for the first token."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    samples: list[Sample]
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    num_cached_tokens: int = 0

    @property
    def finished(self) -> bool:
        return all(sample.finish_reason is not None for sample in self.samples)


class LLMEngine:
    """Requests in, text out, one step a call; what `LLM` and tests are made of.

    `emit` hears every event of the engine. Raises: EngineError if the model cannot be loaded.
    """

    def __init__(
        self,
        config: EngineConfig,
        cache_dir: Path,
        emit: Callable[[AnyEvent], None] | None = None,
        progress: Progress = silent,
        load: Loader = load_model,
    ) -> None:
        self._core = EngineCore(config, cache_dir, emit or _ignore, progress, load=load)
        self.tokenizer = Tokenizer.load(self._core.folder.path)
        self._texts = OutputProcessor(self.tokenizer)
        self._numbers = itertools.count(1)
        self._outputs: dict[str, RequestOutput] = {}
        self._places: dict[int, tuple[RequestOutput, Sample]] = {}

    @property
    def has_unfinished_requests(self) -> bool:
        return bool(self._outputs)

    def add_request(
        self, request_id: str, prompt: Prompt, params: SamplingParams, priority: int = 0
    ) -> RequestOutput:
        """The request's output, which grows with the steps.

        Raises: QueueFullError, InvalidRequestError.
        """
        if request_id in self._outputs:
            raise InvalidRequestError(f"request {request_id!r} is there already", "request_id")
        check_params(params)
        text = prompt if isinstance(prompt, str) else None
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        output = RequestOutput(request_id, text, ids, [Sample() for _ in range(params.n)])
        self._outputs[request_id] = output
        try:
            for sample, own_params in zip(output.samples, sample_params(params), strict=True):
                self._add_sample(output, sample, own_params, priority)
        except EngineError:
            self.abort_request(request_id)
            raise
        return output

    def abort_request(self, request_id: str) -> None:
        """Forgets a request and frees what it holds; an unknown one is left alone."""
        output = self._outputs.pop(request_id, None)
        for number in [n for n, (owner, _) in self._places.items() if owner is output]:
            self._core.abort(number, "abort")
            self._texts.drop(number)
            del self._places[number]

    def step(self) -> list[RequestOutput]:
        """The requests that got something in one step, the finished ones for the last time.

        Raises: EngineError if the step failed; its requests are gone, others can go on.
        """
        changed: dict[str, RequestOutput] = {}
        failure = None
        for update in self._texts.process(self._core.step()):
            output = self._take(update)
            changed[output.request_id] = output
            if (update.finish_reason or "").startswith("error"):
                failure = update.finish_reason
                self.abort_request(output.request_id)
        if not self._outputs and self._core.has_work:
            # A step that ran ahead for requests that have ended: its time is not the next one's.
            self._core.step()
        if failure is not None:
            raise EngineError(f"a step of the engine failed: {failure}")
        return list(changed.values())

    def _add_sample(
        self, output: RequestOutput, sample: Sample, params: SamplingParams, priority: int
    ) -> None:
        request = EngineRequest(
            request=next(self._numbers),
            name=output.request_id,
            prompt_token_ids=tuple(output.prompt_token_ids),
            params=params,
            priority=priority,
            t_arrival_ns=time.monotonic_ns(),
            eos_token_ids=self.tokenizer.eos_ids,
        )
        self._core.add(request)
        self._texts.add(request)
        self._places[request.request] = (output, sample)

    def _take(self, update: SampleUpdate) -> RequestOutput:
        output, sample = self._places[update.request]
        sample.text += update.text
        sample.token_ids += update.token_ids
        if update.logprobs is not None:
            sample.logprobs = (sample.logprobs or []) + update.logprobs
        if update.prompt_logprobs is not None:
            output.prompt_logprobs = update.prompt_logprobs
        output.num_cached_tokens = max(output.num_cached_tokens, update.num_cached_tokens)
        if update.ended_by_text:
            self._core.finish(update.request, "stop")
        if update.finish_reason is not None:
            sample.finish_reason = update.finish_reason
            sample.stop_reason = update.stop_reason
            del self._places[update.request]
            if output.finished:
                self._outputs.pop(output.request_id, None)
        return output


class LLM:
    """A loaded model. `model` is anything `llmtop serve` takes.

    Keyword arguments are the fields of `EngineConfig` and of `SchedulerConfig`. What is fetched
    and converted is kept under `cache_dir`. Raises: EngineError, TypeError for an unknown keyword.
    """

    def __init__(
        self,
        model: str = EngineConfig().model,
        *,
        cache_dir: Path | None = None,
        emit: Callable[[AnyEvent], None] | None = None,
        progress: Progress = silent,
        load: Loader = load_model,
        **settings: Any,
    ) -> None:
        config = engine_config(model, settings)
        self._engine = LLMEngine(config, cache_dir or _default_cache(), emit, progress, load)
        self._ids = itertools.count()

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        on_step: Callable[[list[RequestOutput]], None] | None = None,
    ) -> list[RequestOutput]:
        """One output per prompt, in order. A prompt is a text or a list of token ids.

        `params` holds for all prompts, or there is one for each. `on_step` sees what each step
        gave. Raises: InvalidRequestError, EngineError; then no request is left running.
        """
        listed = _listed(prompts)
        engine = self._engine
        outputs: list[RequestOutput] = []
        try:
            for prompt, own in zip(listed, _each(params, len(listed)), strict=True):
                outputs.append(engine.add_request(str(next(self._ids)), prompt, own))
            while engine.has_unfinished_requests:
                changed = engine.step()
                if on_step is not None:
                    on_step(changed)
        except BaseException:
            for output in outputs:
                engine.abort_request(output.request_id)
            raise
        return outputs

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        on_step: Callable[[list[RequestOutput]], None] | None = None,
    ) -> RequestOutput:
        """The model's answer to a conversation, by its own chat template."""
        text = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return self.generate([ids], params, on_step)[0]


def engine_config(model: str, settings: dict[str, Any]) -> EngineConfig:
    """The configuration of keyword arguments. Offline, the queue takes whatever there is to do.

    Raises: TypeError for a name that is no setting.
    """
    of_scheduler = {f.name for f in msgspec.structs.fields(SchedulerConfig)}
    scheduling = {name: value for name, value in settings.items() if name in of_scheduler}
    rest = {name: value for name, value in settings.items() if name not in of_scheduler}
    scheduler = SchedulerConfig(**{"max_num_queued_reqs": sys.maxsize, **scheduling})
    return EngineConfig(model=model, scheduler=scheduler, **rest)


def _listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt is a text, or a list of nothing but numbers."""
    if isinstance(prompts, str):
        return [prompts]
    texts = [part for part in prompts if not isinstance(part, int)]
    if len(texts) == len(prompts):
        return list(texts)
    if texts:
        raise InvalidRequestError("token ids and prompts are mixed in one list", "prompts")
    return [[part for part in prompts if isinstance(part, int)]]


def _each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> Sequence[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    if len(params) != count:
        raise InvalidRequestError(f"{len(params)} sampling params for {count} prompts", "params")
    return params


def _default_cache() -> Path:
    """The cache of the command line tool, so that both fetch a model once."""
    home = os.environ.get("LLMTOP_HOME")
    return Path(home) / "cache" if home else user_cache_path("llmtop", appauthor=False)


def _ignore(event: AnyEvent) -> None:
    pass

"""STUB."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class LLMOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    api_base: str | None = None


LanguageModel = Prompts = Request = draft = language_model = Any

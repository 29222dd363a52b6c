"""ModelSpec: what is to be deployed, as a person states it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mooring.generation.sampling import SamplingParams

DEMO_SOURCE = "demo"

# What the well-known instruct deployment answers with when nothing is said.
BASE_DEFAULTS: dict[str, Any] = {"temperature": 0.1, "max_tokens": 1000}


class ModelSpec(BaseModel):
    """A model to package.

    `source` is `demo`, a folder or a hub id, `revision` a branch, tag or commit of the hub id.
    `prompt` is `auto`, `chat`, `instruct`, `plain` or the path of a Jinja file. `defaults` are
    sampling parameters used where a request says nothing. `requirements` are pip requirements
    added to the ones found by reading the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: str = Field(min_length=1)
    revision: str | None = None
    prompt: str = "auto"
    system: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False
    requirements: tuple[str, ...] = ()
    defaults: dict[str, Any] = Field(default_factory=dict)

    @field_validator("defaults")
    @classmethod
    def _check_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        checked = SamplingParams().update(values).to_dict()
        return {name: checked[name] for name in values}

"""JSON Schemas of the models, for `map schema`, editors and schemas/published."""

from typing import Any

from pydantic import TypeAdapter


def json_schema(model: Any) -> dict[str, Any]:
    """Return the model's JSON Schema, draft 2020-12, with the names of the JSON."""
    schema = TypeAdapter(model).json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

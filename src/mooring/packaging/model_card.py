"""The model card: what the artifact is and how to ask it, in Markdown for people."""

from mooring.spec.manifest import Manifest


def model_card(name: str, manifest: Manifest) -> str:
    """Return the card written into the artifact and shown as the registered model's description."""
    facts, origin = manifest.facts, manifest.origin
    source = origin.name if origin.commit is None else f"{origin.name} at {origin.commit}"
    code = "yes, trusted at packaging" if facts.own_code else "no"
    defaults = "\n".join(
        f"| `{key}` | `{value}` |" for key, value in manifest.defaults.items() if value is not None
    )
    return f"""# {name}

| | |
|---|---|
| source | {source} |
| architecture | {facts.architecture} (`{facts.model_type}`) |
| parameters | {facts.parameters:,} |
| weights | {facts.weight_bytes / 1e6:,.1f} MB of safetensors |
| conversions | {", ".join(c.name for c in manifest.conversions) or "none"} |
| context | {manifest.context_length:,} tokens |
| own code | {code} |
| prompt format | {manifest.prompt.kind} |
| digest | `{manifest.digest}` |
| packaged by | Mooring {manifest.mooring_version} |

## Ask it

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}/<version>")
model.predict({{"prompt": "What is machine learning?"}}, params={{"temperature": 0}})
```

```
mooring serve models:/{name}/<version>
```

A row has either `prompt` (a string) or `messages` (a list of role and content).
The answer is `{{"candidates": [...]}}`, `n` strings for each row.

## Defaults

| parameter | value |
|---|---|
{defaults}
"""

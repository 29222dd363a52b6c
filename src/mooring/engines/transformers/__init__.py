"""The default engine: any AutoModelForCausalLM, batched."""

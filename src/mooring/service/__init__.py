"""One request's life: render, tokenize, submit, detokenize, stop, account, cancel."""

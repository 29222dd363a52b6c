"""The variables of a verb, `MOORING_SERVE_PORT` for `--port`: one that sets nothing is refused."""

import os
from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand, TyperOption

from mooring.errors import InvalidInput


class Verb(TyperCommand):
    """A command that refuses variables with its prefix and the name of no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; raise `InvalidInput` for a variable that sets nothing."""
        if not set(args) & set(ctx.help_option_names):
            self._check_variables(f"{ctx.auto_envvar_prefix}_")
        return super().parse_args(ctx, args)

    def _check_variables(self, prefix: str) -> None:
        known = [
            f"{prefix}{option.name}".upper()
            for option in self.params
            if isinstance(option, TyperOption) and option.allow_from_autoenv
        ]
        for name in sorted(os.environ):
            if name.startswith(prefix) and name not in known:
                near = get_close_matches(name, known, 1, cutoff=0)[0]
                raise InvalidInput(
                    f"Unknown variable `{name[:80]}`. Did you mean `{near}`? "
                    f"`mooring {self.name} --help` names them all."
                )

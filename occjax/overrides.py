"""Command-line overrides checked against the typed configuration before they are parsed."""

import dataclasses
import difflib


def check_overrides(arguments: list[str], config: object, prefix: str = "--config.") -> None:
    """Raises ValueError that names the accepted fields if an override names a field that does not exist.

    Args:
      arguments: command line, e.g. ["--config.train.steps=10"].
      config: dataclass instance that the overrides will be applied to.
      prefix: what overrides start with.
    """
    for argument in arguments:
        if not argument.startswith(prefix):
            continue
        path = argument[len(prefix) :].split("=", 1)[0]
        holder, walked = config, []
        for name in path.split("."):
            accepted = [f.name for f in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
            if name not in accepted:
                where = ".".join(walked) or "config"
                close = difflib.get_close_matches(name, accepted, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(
                    f"{prefix}{path}: {where} has no field {name!r}{hint}\n"
                    f"  fields of {where}: {', '.join(accepted) or 'none, it is a plain value'}"
                )
            walked.append(name)
            holder = getattr(holder, name)
        if dataclasses.is_dataclass(holder):
            fields = ", ".join(f.name for f in dataclasses.fields(holder))
            raise ValueError(f"{prefix}{path} is a section, not a value; set one of its fields: {fields}")
